"""How predictions combine: votes of semantic members, fusion of instance members' boxes and masks.

Stands on `segdata`; imports neither torch, ray nor an mm* package. Reads prediction sets and writes one, so that an
ensemble is scored, viewed and fused again like any single model.
"""

from ensembling.boxes import BoxClusters, Objects, fuse_boxes
from ensembling.ensemble_file import (
    ENSEMBLE_FILE,
    EnsembleMember,
    EnsembleRecord,
    read_ensemble,
    write_ensemble,
)
from ensembling.fusion import METHODS, Method, fuse
from ensembling.masks import fuse_masks
from ensembling.members import open_members, require_compatible
from ensembling.settings import FusionSettings
from ensembling.votes import hard_vote, soft_vote, soft_vote_labels
from ensembling.weights import member_weights

__all__ = [
    "ENSEMBLE_FILE",
    "METHODS",
    "BoxClusters",
    "EnsembleMember",
    "EnsembleRecord",
    "FusionSettings",
    "Method",
    "Objects",
    "fuse",
    "fuse_boxes",
    "fuse_masks",
    "hard_vote",
    "member_weights",
    "open_members",
    "read_ensemble",
    "require_compatible",
    "soft_vote",
    "soft_vote_labels",
    "write_ensemble",
]
