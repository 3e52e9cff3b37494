"""What must change in a zoo config before it trains on the user's data: name of the model -> change of its config.

Pure functions on plain nested dicts.
"""

from collections.abc import Callable
from typing import Any

from trainables.instance_adaptations import INSTANCE_ADAPTATIONS
from trainables.semantic_adaptations import SEMANTIC_ADAPTATIONS

__all__ = ["adapt"]

Nested = dict[str, Any]

ADAPTATIONS: dict[str, Callable[[Nested], None]] = {**INSTANCE_ADAPTATIONS, **SEMANTIC_ADAPTATIONS}


def adapt(model: Nested, name: str) -> None:
    """Changes the zoo's config of the model `name`, in place, to the form that is trained here."""
    if name in ADAPTATIONS:
        ADAPTATIONS[name](model)
