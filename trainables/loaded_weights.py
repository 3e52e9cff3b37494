"""What a trial's initial weights filled, in a form that a file, MLflow and a table can show. Standard library only."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["LoadedWeights", "describe_loaded"]

SHOWN = 8  # groups of missing tensors in a line of text


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """What was loaded, counted in tensors of the model (running statistics included, counters not).

    Attributes:
        init: What the trial said.
        files: Names of the files.
        loaded: Tensors that were filled.
        of: Tensors that there are.
        share: Filled share of all values.
        encoder_share: Filled share of the encoder's values.
        missing: Parts of the model that stayed as initialised at random: `decode_head.conv_seg.*`, or one tensor.
    """

    init: str
    files: tuple[str, ...]
    loaded: int
    of: int
    share: float
    encoder_share: float
    missing: tuple[str, ...]

    def text(self) -> str:
        """Returns one line: `245 of 251 tensors loaded from x.pth; left as they were: decode_head.conv_seg.*`."""
        source = f" from {', '.join(self.files)}" if self.files else ""
        shown = ", ".join(self.missing[:SHOWN])
        more = f" and {len(self.missing) - SHOWN} more" if len(self.missing) > SHOWN else ""
        left = f"; left as they were: {shown}{more}" if self.missing else ""
        return f"{self.loaded} of {self.of} tensors loaded{source}{left}"

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Reads the record of a trial; None if it started from nothing."""
        if not path.is_file():
            return None
        values = json.loads(path.read_text())
        return cls(**values | {"files": tuple(values["files"]), "missing": tuple(values["missing"])})


def describe_loaded(
    init: str, files: Sequence[str], sizes: Mapping[str, int], filled: Collection[str]
) -> LoadedWeights:
    """Counts and groups.

    Args:
        init: What the trial said.
        files: Names of the files.
        sizes: Name of each of the model's tensors -> its number of values.
        filled: Names of those that were loaded.
    """
    encoder = {name: size for name, size in sizes.items() if name.startswith("backbone.")}
    return LoadedWeights(
        init=init,
        files=tuple(files),
        loaded=sum(name in filled for name in sizes),
        of=len(sizes),
        share=share_of(sizes, filled),
        encoder_share=share_of(encoder, filled),
        missing=groups_of(sizes, filled),
    )


def share_of(sizes: Mapping[str, int], filled: Collection[str]) -> float:
    """Returns the share of values that were loaded; 1 if there are none."""
    total = sum(sizes.values())
    return sum(size for name, size in sizes.items() if name in filled) / total if total else 1.0


def groups_of(names: Collection[str], filled: Collection[str]) -> tuple[str, ...]:
    """Returns the tensors that were not loaded, those of a module of which nothing was loaded as `module.*`."""
    touched = {part for name in names if name in filled for part in parents_of(name)}
    groups: dict[str, None] = {}
    for name in names:
        if name not in filled:
            untouched = next((parent for parent in parents_of(name) if parent not in touched), None)
            groups[f"{untouched}.*" if untouched else name] = None
    return tuple(groups)


def parents_of(name: str) -> list[str]:
    """Returns the modules that a tensor lies in, outermost first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
