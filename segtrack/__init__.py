"""What a sweep leaves in MLflow: one experiment a project, a parent run a sweep, a child run a trial or ensemble."""

from segtrack.recorder import RunStatus, SweepRecorder
from segtrack.store import resolve_uri

__all__ = ["RunStatus", "SweepRecorder", "resolve_uri"]
