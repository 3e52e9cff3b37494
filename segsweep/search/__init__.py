"""How the next trial is chosen: the Optuna study that is the truth of a sweep, its sampler, scheduler and searcher."""

from segsweep.search.schedulers import build_scheduler
from segsweep.search.searcher import StudySearcher, SweepObserver, enqueue_baseline
from segsweep.search.study import Study, TrialRecord, open_study, trial_records

__all__ = [
    "Study",
    "StudySearcher",
    "SweepObserver",
    "TrialRecord",
    "build_scheduler",
    "enqueue_baseline",
    "open_study",
    "trial_records",
]
