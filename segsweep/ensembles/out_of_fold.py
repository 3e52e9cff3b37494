"""Out-of-fold predictions: each image of the pool as the network predicts it that did not train on it, as one set.

What is chosen on such a set is chosen on images that no network has seen, without holding any back for it.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from segdata.errors import TrialError
from segdata.prediction_parts import RECORD_FILE, put_in_place
from segdata.prediction_union import join_predictions
from segdata.views import PLAIN, View
from segsweep.ensembles.folded_trial import FoldedTrial
from segsweep.predicting import How, digest_of, network_settings, predict_images
from segsweep.prediction_source import ImagesSource, Network, images_of_data

__all__ = ["out_of_fold"]


def out_of_fold(folded: FoldedTrial, how: How, console: Console, view: View = PLAIN) -> Path:
    """Predicts each fold's held-out images with its network, and returns the one prediction set of the whole pool.

    Its images, their ids and its fingerprint are those of `folded.pool.data`. A set that is there is kept if the same
    networks predicted it in the same way, else replaced.

    Args:
        folded: A configuration whose networks are trained.
        how: How images are predicted.
        console: Shows progress.
        view: How the networks see an image. The set lies in `out-of-fold` beside them, with the view in its name where
            that is not the plain one; the folds' parts lie in `SET.folds`, and go when it is there.

    Raises:
        TrialError: A process failed, or an image could not be predicted.
    """
    pool, target = folded.pool, folded.folder / ("out-of-fold" if view == PLAIN else f"out-of-fold-{view}")
    whole = images_of_data(pool.data)
    networks = [replace(network, view=view) for network in folded.networks]
    settings = [network_settings(network, whole, how.windows, how.stride) for network in networks]
    record = json.dumps({"settings": {"folds": settings, "images": whole.fingerprint}}, indent=2, sort_keys=True)
    if (target / RECORD_FILE).is_file() and (target / RECORD_FILE).read_text(encoding="utf-8") == record:
        return target
    folder = target.with_name(f"{target.name}.folds")
    parts = [predict_fold(folded, fold, network, how, folder, console) for fold, network in enumerate(networks)]
    fresh = folder / "whole"
    shutil.rmtree(fresh, ignore_errors=True)
    join_predictions(
        parts,
        [file.image for file in whole.files],
        fresh,
        fingerprint=whole.fingerprint,
        trial=folded.name,
        config_hash=folded.trial.hash(),
        files={RECORD_FILE: record},
    )
    put_in_place(fresh, target)
    shutil.rmtree(folder)
    return target


def predict_fold(folded: FoldedTrial, fold: int, network: Network, how: How, folder: Path, console: Console) -> Path:
    """Predicts the held-out images of one fold into `folder`, going on with what is there.

    Raises:
        TrialError: A process failed, or an image could not be predicted.
    """
    held_out = images_of_data(folded.pool.fold(fold).roles["val"])
    refuse_unreadable(held_out.unreadable, held_out)
    digest = digest_of(network_settings(network, held_out, how.windows, how.stride))
    title = f"fold {fold} of trial {folded.name} predicts"
    predicted = predict_images(network, held_out, folder / f"fold-{fold}-{digest}", how, console, title)
    refuse_unreadable(predicted.failed, held_out)
    return predicted.out


def refuse_unreadable(failed: dict[str, str], images: ImagesSource) -> None:
    """Raises TrialError if an image of the pool has no prediction: a score without it would not be the pool's."""
    if failed:
        raise TrialError.of(
            f"expected all images of train and val, but {len(failed)} can't be read: {next(iter(failed.values()))}",
            where=images.folder,
            cure="Put them back, then run the same command: what is predicted is kept.",
        )
