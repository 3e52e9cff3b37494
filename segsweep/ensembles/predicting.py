"""Predicting with a source: with one network straight into the set, with an ensemble's members first, then fused.

Imports ensembling and predicting.
"""

import json
import shutil
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ensembling.fusion import fuse
from segdata.errors import SegsweepError
from segdata.prediction_parts import RECORD_FILE, put_in_place, refuse_other_settings, settings_of
from segdata.predictions import PredictionSet
from segsweep.predicting import How, Predicted, network_settings, predict_images
from segsweep.prediction_source import ImagesSource, Source

__all__ = ["predict_source"]


def predict_source(source: Source, images: ImagesSource, out: Path, how: How, console: Console) -> Predicted:
    """Predicts images with a network or an ensemble into the set `out`, going on with what is there.

    An ensemble's members are predicted into `NAME.members` beside it, which goes when they are fused.

    Raises:
        InputError: `out` is something else, or was predicted with other settings.
        TrialError: A process failed, or no image could be predicted.
    """
    if source.ensemble is None:
        return predict_images(source.networks[0], images, out, how, console, f"{source.name} predicts")
    settings = ensemble_settings(source, images, how)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        refuse_other_settings(settings_of(out), settings, out)
        known = PredictionSet.open(out).meta
        if known.dataset_fingerprint == images.fingerprint and len(known.images) == len(images.files):
            return Predicted(out, len(images.files), 0, images.unreadable)
    folder = out.with_name(f"{out.name}.members")
    done: list[Predicted] = []
    try:
        for number, network in enumerate(source.networks):
            member = folder / f"{number:02d}-{network.trial}"
            done.append(predict_images(network, images, member, how, console, f"trial {network.trial} predicts"))
    except SegsweepError:
        with suppress(OSError):  # it holds what is predicted, or was never made
            folder.rmdir()
        raise
    failed = {name: reason for predicted in done for name, reason in predicted.failed.items()}
    fuse_members(source, [predicted.out for predicted in done], out, settings, console)
    shutil.rmtree(folder)
    return replace(done[0], out=out, failed=failed)


def ensemble_settings(source: Source, images: ImagesSource, how: How) -> dict[str, Any]:
    """Returns all that changes what comes out, the images themselves aside."""
    assert source.ensemble is not None
    record = source.ensemble
    members = [network_settings(network, images, how.windows)["weights"] for network in source.networks]
    return network_settings(source.networks[0], images, how.windows) | {
        "weights": members,
        "method": record.method,
        "shares": [member.weight for member in record.members],
        "fusion": asdict(record.settings),
    }


def fuse_members(source: Source, members: list[Path], out: Path, settings: dict[str, Any], console: Console) -> None:
    """Fuses the members' sets as the ensemble file says, and puts the result in its place."""
    assert source.ensemble is not None
    record = source.ensemble
    fresh = members[0].parent / "finished"
    shutil.rmtree(fresh, ignore_errors=True)
    weights = [member.weight for member in record.members]
    with console.status(f"fusing by {record.method}"):
        fuse(members, fresh, method=record.method, weights=weights, settings=record.settings, allow_empty=True)
    known = json.loads((members[0] / RECORD_FILE).read_bytes())
    text = json.dumps(known | {"settings": settings}, indent=2, sort_keys=True)
    (fresh / RECORD_FILE).write_text(text + "\n", encoding="utf-8")
    put_in_place(fresh, out)
