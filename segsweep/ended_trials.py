"""What Ray Tune keeps of a trial that has ended, which nobody reads, is dropped: the study holds it all (ADR 031).

Tune has no public way to let go of a trial. Its `run_metadata` is known here alone; a test pins it. Imports ray.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

__all__ = ["EndedTrials"]


class EndedTrials(Callback):
    """Frees the memory and the folders that Tune would keep until the end of the sweep.

    What stays is what Tune looks at again: the trial's status, its resources and its config.
    """

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Drops results and statistics of each metric, and the pointers to `last.pth`; an `error.txt` stays."""
        forget_results(trial)
        if trial.path is not None:
            drop_pointers(Path(trial.path))


def forget_results(trial: Trial) -> None:
    """Empties what Tune gathered from a trial's reports; of one without any last result it would ask its worker."""
    kept = trial.run_metadata
    kept.last_result, kept.metric_analysis, kept.metric_n_steps = {"done": True}, {}, {}
    if kept.checkpoint_manager is not None:
        kept.checkpoint_manager = type(kept.checkpoint_manager)(kept.checkpoint_manager.checkpoint_config)


def drop_pointers(folder: Path) -> None:
    """Removes the checkpoints in Tune's folder of a trial; the folder would only be made anew."""
    with contextlib.suppress(OSError):  # a disk that is away must not fail the trial
        for pointer in folder.glob("checkpoint_*"):
            shutil.rmtree(pointer, ignore_errors=True)
