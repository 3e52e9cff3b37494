"""Which candidates make the best ensemble, with which weights and settings, on labelled images.

    candidates   what may be chosen, what it costs, what fits into the limits
    library      candidates opened with the truth that they are scored on; every ensemble is judged once
    blends       an ensemble as it is tried: members, whole weights, method, settings
    judges       scores blends without writing them to disk; `disk_judge` for metrics that need a folder
    greedy       forward selection with replacement, bagged, and what adds nothing dropped again
    tuning       settings and weights by Optuna
    selecting    all of these in their order, and what each member adds

Stands on `segdata`, `segscore` and this package; Optuna is imported in `tuning` alone.
"""

from ensembling.selection.candidates import Candidate, SelectionRules
from ensembling.selection.library import Library
from ensembling.selection.selecting import Estimate, SelectedMember, Selection, select_ensemble

__all__ = [
    "Candidate",
    "Estimate",
    "Library",
    "SelectedMember",
    "Selection",
    "SelectionRules",
    "select_ensemble",
]
