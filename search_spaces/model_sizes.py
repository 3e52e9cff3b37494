"""How many parameters a model and an encoder have at stock width: measured by `make docs`, read from its table.

The table is data (`model_sizes.json`), since counting needs the networks to be built. Imports nothing of ours.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

__all__ = ["SIZES_FILE", "encoder_parameters", "millions", "model_parameters"]

SIZES_FILE = Path(__file__).with_name("model_sizes.json")


@cache
def _sizes() -> Mapping[str, Mapping[str, int]]:
    sizes: Mapping[str, Mapping[str, int]] = json.loads(SIZES_FILE.read_text(encoding="utf-8"))
    return sizes


def model_parameters(model: str) -> int | None:
    """Returns the parameters of a model with its stock encoder, None if it was not measured."""
    return _sizes()["models"].get(model)


def encoder_parameters(backbone: str) -> int | None:
    """Returns the parameters of an encoder alone, None if it was not measured."""
    return _sizes()["encoders"].get(backbone)


def millions(parameters: int | None) -> str:
    """Returns a count in millions for a table; "" if it is not known."""
    return "" if parameters is None else f"{parameters / 1e6:.1f}"
