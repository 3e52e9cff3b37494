"""How the next trial is chosen: the Optuna study that is the truth of a sweep, its sampler, scheduler and searcher.

The rooms `searcher` and `schedulers` import ray; reading a study does not.
"""

from segsweep.search.study import Study, TrialRecord, mend_journal, open_study, read_study, trial_records

__all__ = ["Study", "TrialRecord", "mend_journal", "open_study", "read_study", "trial_records"]
