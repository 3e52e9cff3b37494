"""What a sweep leaves in MLflow: one experiment a project, a parent run a sweep, a child run a trial or ensemble.

`recorder` imports mlflow, which takes seconds; `store` does not.
"""

from segtrack.store import artifact_location, resolve_uri

__all__ = ["artifact_location", "resolve_uri"]
