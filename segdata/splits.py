"""Splits: which images train, validate, select and test, drawn by seed and stratified.

A split file (JSON): {"schema_version": 1, "seed": 7, "dataset_fingerprint": "...", "folds": [{"train": [file names],
"val": [...]}, ...], "test": [...], "select": [...], "remarks": [...]}; a holdout split is one fold. The same names,
strata and seed give the same split, in whatever order they come. May import scikit-learn and this package's records.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segdata.atomic import write_text
from segdata.errors import DatasetError, InputError

__all__ = ["Fold", "Split", "make_split", "pool_small_strata", "read_split", "write_split"]

_SCHEMA_VERSION = 1
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Fold:
    """File names to train on and to validate on, each sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """One division of a data set; no image is in two roles of a fold, and test and select are in none.

    `remarks` says in words where strata were pooled or duplicate images kept together.
    """

    seed: int
    dataset_fingerprint: str
    folds: tuple[Fold, ...]
    test: tuple[str, ...]
    select: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def make_split(
    strata: Mapping[str, str | int],
    *,
    val: float,
    test: float,
    select: float,
    folds: int,
    seed: int,
    groups: Mapping[str, str] | None = None,
    dataset_fingerprint: str = "",
) -> Split:
    """Draws test, then select, then the folds, each with every stratum in proportion.

    Args:
        strata: File name -> stratum (`segdata.strata`).
        val: Share of all images, 0 to 1, for the one fold's `val`; unused with `folds` > 1, where it is 1/folds of
            what test and select leave.
        test: Share of all images held back for the report.
        select: Share of all images held back for choosing ensemble members.
        folds: 1 = holdout, k = cross-validation.
        seed: 0 to 2**32 - 1.
        groups: File name -> group; images of one group always land on the same side. Names not in it stand alone.
        dataset_fingerprint: Written into the split.

    Raises:
        InputError: if shares, folds or seed are out of range, or there are too few images.
    """
    _check_shares(val, test, select, folds, seed)
    units = _units(strata, groups or {})
    remarks: list[str] = []
    left = {unit: str(strata[names[0]]) for unit, names in units.items()}
    counts = {role: _count(share, len(units)) for role, share in (("test", test), ("select", select), ("val", val))}
    held: dict[str, list[str]] = {}
    for role in ("test", "select"):
        held[role] = _hold_out(left, counts[role], seed, role, remarks)
        left = {unit: stratum for unit, stratum in left.items() if unit not in set(held[role])}
    if folds == 1:
        val_sides = [_hold_out(left, counts["val"], seed, "val", remarks)]
    else:
        val_sides = _k_sides(left, folds, seed, remarks)
    drawn = [Fold(_names(units, set(left) - set(side)), _names(units, side)) for side in val_sides]
    test_names, select_names = _names(units, held["test"]), _names(units, held["select"])
    return Split(seed, dataset_fingerprint, tuple(drawn), test_names, select_names, tuple(remarks))


def pool_small_strata(
    strata: Mapping[str, str], *, at_least: int, at_most: int
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Joins the smallest strata until each has `at_least` members and there are no more than `at_most`.

    Returns:
        The new strata, and the names of the joined ones.
    """
    pools = {name: [name] for name in sorted(set(strata.values()))}
    sizes = Counter(strata.values())
    while len(pools) > 1:
        first, second = sorted(pools, key=lambda pool: (sizes[pool], pool))[:2]
        if sizes[first] >= at_least and len(pools) <= at_most:
            break
        pools[second] += pools.pop(first)
        sizes[second] += sizes.pop(first)
    pool_of = {name: pool for pool, names in pools.items() for name in names}
    joined = sorted(name for names in pools.values() if len(names) > 1 for name in names)
    return {key: pool_of[stratum] for key, stratum in strata.items()}, tuple(joined)


def write_split(split: Split, path: Path) -> None:
    """Writes the split file; it appears whole or not at all."""
    write_text(path, json.dumps({"schema_version": _SCHEMA_VERSION, **asdict(split)}, indent=1) + "\n")


def read_split(path: Path) -> Split:
    """Reads a split file.

    Raises:
        DatasetError: if it is missing, not a split, or puts an image in two roles.
    """
    cure = "Make it again with `segsweep data split`."
    try:
        raw: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError.of(f"expected a split file, but got: {error.strerror}", where=path, cure=cure) from error
    except ValueError as error:
        raise DatasetError.of(f"expected JSON, but got: {error}", where=path, cure=cure) from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != _SCHEMA_VERSION:
        raise DatasetError.of(
            f"expected a split file of schema_version {_SCHEMA_VERSION}, but got {version!r}", where=path, cure=cure
        )
    try:
        folds = tuple(Fold(_texts(fold["train"]), _texts(fold["val"])) for fold in raw["folds"])
        split = Split(
            int(raw["seed"]),
            str(raw["dataset_fingerprint"]),
            folds,
            _texts(raw["test"]),
            _texts(raw["select"]),
            _texts(raw.get("remarks", [])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError.of(f"expected a split file, but key {error} is wrong", where=path, cure=cure) from error
    _refuse_leaks(split, path)
    return split


def _check_shares(val: float, test: float, select: float, folds: int, seed: int) -> None:
    for name, share in (("val", val), ("test", test), ("select", select)):
        if not 0 <= share < 1:
            raise InputError.of(f"expected a share from 0 to below 1, but got {share}", where=name, cure="Lower it.")
    if not 1 <= folds <= 100:
        raise InputError.of(f"expected 1 to 100 folds, but got {folds}", where="folds", cure="Take 5, say.")
    total = test + select + (val if folds == 1 else 0)
    if total >= 1:
        raise InputError.of(
            f"expected shares that leave images to train on, but got {total:g} in all",
            where="val + test + select",
            cure="Lower them.",
        )
    if not 0 <= seed <= _LARGEST_SEED:
        raise InputError.of(f"expected 0 to {_LARGEST_SEED}, but got {seed}", where="seed", cure="Take 7, say.")


def _units(strata: Mapping[str, str | int], groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Gathers each group under its first name, in name order."""
    if not strata:
        raise InputError("expected images to split, but got none. Check the data set.")
    members: dict[str, list[str]] = {}
    for name in sorted(strata):
        members.setdefault(f"group {groups[name]}" if name in groups else f"name {name}", []).append(name)
    return {names[0]: names for names in members.values()}


def _count(share: float, total: int) -> int:
    return max(1, round(share * total)) if share else 0


def _hold_out(left: Mapping[str, str], count: int, seed: int, role: str, remarks: list[str]) -> list[str]:
    """Draws `count` units for a role."""
    if count == 0:
        return []
    rest = len(left) - count
    if rest < 1:
        raise InputError.of(
            f"expected images left to train on, but {count} of {len(left)} remaining ones are asked for",
            where=role,
            cure="Lower the shares or add images.",
        )
    # Imported where it is needed: it takes 1.5 s, and every trial's process imports segdata.
    from sklearn.model_selection import StratifiedShuffleSplit

    strata, joined = pool_small_strata(left, at_least=2, at_most=min(count, rest))
    _remark(remarks, role, joined)
    names = sorted(strata)
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=count, train_size=rest, random_state=seed)
    _, drawn = next(splitter.split(np.zeros(len(names)), [strata[name] for name in names]))
    return sorted(names[index] for index in drawn)


def _k_sides(left: Mapping[str, str], folds: int, seed: int, remarks: list[str]) -> list[list[str]]:
    if len(left) < folds:
        raise InputError.of(
            f"expected at least {folds} images for {folds} folds, but got {len(left)}",
            where="folds",
            cure="Lower the number of folds or add images.",
        )
    from sklearn.model_selection import StratifiedKFold

    strata, joined = pool_small_strata(left, at_least=folds, at_most=len(left))
    _remark(remarks, f"{folds} folds", joined)
    names = sorted(strata)
    splitter = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    sides = splitter.split(np.zeros(len(names)), [strata[name] for name in names])
    return [[names[index] for index in drawn] for _, drawn in sides]


def _remark(remarks: list[str], role: str, joined: Sequence[str]) -> None:
    if joined:
        shown = ", ".join(joined[:6]) + (f" and {len(joined) - 6} more" if len(joined) > 6 else "")
        remarks.append(f"{role}: too few images to keep {shown} apart; drawn from them together")


def _names(units: Mapping[str, Sequence[str]], chosen: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(name for unit in chosen for name in units[unit]))


def _texts(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(text, str) for text in raw):
        raise TypeError(f"expected a list of texts, but got {raw!r:.40}")
    return tuple(raw)


def _refuse_leaks(split: Split, path: Path) -> None:
    for number, fold in enumerate(split.folds):
        seen = Counter((*fold.train, *fold.val, *split.test, *split.select))
        twice = sorted(name for name, count in seen.items() if count > 1)
        if twice:
            raise DatasetError.of(
                f"expected each image in one role, but got {twice[0]!r} twice",
                where=f"{path}, folds[{number}]",
                cure="Make the split again with `segsweep data split`.",
            )
