"""What `segsweep score` prints at 80 columns: scores with intervals, two sets side by side, calibration, confusion."""

import math
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from segscore import Difference, Evaluation, InstanceScores, Interval

__all__ = [
    "averaging",
    "print_comparison",
    "print_confusion",
    "print_notes",
    "print_reliability",
    "print_scores",
]

_FEW_IMAGES = 30
_LEAST_SHARE = 0.0005  # of a class's pixels; less would be shown as 0.0 %


def print_scores(console: Console, evaluation: Evaluation, sure: Mapping[str, Interval]) -> None:
    """Prints each metric with its interval."""
    table = _table(_title(evaluation), "metric", "score", "95 % interval")
    for name, value in evaluation.values.items():
        table.add_row(name, _score(value), _interval(sure.get(name)))
    console.print(table)


def print_comparison(
    console: Console,
    first: Evaluation,
    second: Evaluation,
    apart: Mapping[str, Difference],
    names: tuple[str, str],
) -> None:
    """Prints both sets' metrics, their difference with its interval, and whether the first is really better."""
    table = _table(_title(first), "metric", "A", "B", "A - B", "95 % interval", "p")
    theirs = second.values
    for name, value in first.values.items():
        found, other = apart.get(name), theirs.get(name, math.nan)
        interval, p = ("", "") if found is None else (_signed_interval(found.interval), f"{found.p:.3f}")
        table.add_row(name, _score(value), _score(other), _signed(value - other), interval, p)
    console.print(f"A: {names[0]}", soft_wrap=True)
    console.print(f"B: {names[1]}", soft_wrap=True)
    console.print(table)
    leading = next(iter(apart), None)
    if leading is not None:
        console.print(_verdict(leading, apart[leading], first.scores[0].images))


def print_reliability(console: Console, evaluation: Evaluation) -> None:
    """Prints, for each bin of confidences, how many were right."""
    if evaluation.calibration is None:
        return
    what = "detections" if isinstance(evaluation.scores[0], InstanceScores) else "pixels"
    table = _table("Calibration", "confidence", what, "mean confidence", "share right")
    for row in evaluation.calibration.bins:
        values = [_score(row.mean_confidence), _score(row.share_right)] if row.count else ["", ""]
        table.add_row(f"{row.low:.1f} to {row.high:.1f}", f"{row.count}", *values)
    console.print(table)


def print_confusion(console: Console, evaluation: Evaluation) -> None:
    """Prints, for each true class, what its pixels were taken for, the most frequent first; `--json` has all."""
    if evaluation.confusion is None:
        return
    names = [name for name, _ in evaluation.scores[0].per_class]
    table = _table("Confusion", "true class", "pixels", "predicted as")
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", False
    for name, row in zip(names, evaluation.confusion.tolist(), strict=True):
        total = sum(row)
        shown = [index for index in range(len(row)) if row[index] >= _LEAST_SHARE * total > 0]
        order = sorted(shown, key=lambda index: -row[index])
        shares = [f"{names[index]} {100 * row[index] / total:.1f} %" for index in order]
        table.add_row(name, f"{total}", ", ".join(shares) or "absent")
    console.print(table)


def print_notes(console: Console, evaluation: Evaluation, resamples: int) -> None:
    """Prints how the numbers were averaged, and what to be careful about."""
    for line in averaging(evaluation):
        console.print(line)
    images = evaluation.scores[0].images
    if resamples and images == 1:
        console.print("One image: no interval can be told from it.")
    elif resamples and images < _FEW_IMAGES:
        console.print(f"{images} images are few: the true interval is likely wider than the one printed.")
    if evaluation.objects_found == 0:
        console.print("The prediction set holds no object on these images.")


def averaging(evaluation: Evaluation) -> list[str]:
    """Says in words what the metrics are."""
    scores = evaluation.scores[0]
    sure = (
        "calibration_error: mean gap between confidence and share of right ones, over ten bins of confidence."
        if evaluation.calibration is not None
        else ""
    )
    if isinstance(scores, InstanceScores):
        lines = [
            "mAP: mean over IoU 0.50:0.05:0.95, 101 recalls and classes, with at most "
            f"{scores.max_detections} detections an image and class. s, m, l: area to 32^2, to 96^2, above. "
            "boundary_AP: the same, by the smaller of mask IoU and boundary IoU (depth 0.02 of the diagonal)."
        ]
        if scores.left_out:
            lines.append(f"{scores.left_out} objects of the truth without a pixel are left out.")
        return [*lines, *([sure] if sure else [])]
    lines = [
        "mIoU: mean over classes of the IoU over all images. mIoU_per_image: mean over images of the mean over "
        f"their classes. mIoU_per_batch_{evaluation.batch}: mean over batches of {evaluation.batch} images in order. "
        "accuracy: share of all pixels. boundary_IoU: mean over classes of the IoU of outlines (depth 0.02 of the "
        "diagonal) over all images. Absent classes are in no mean."
    ]
    return [*lines, *([sure] if sure else [])]


def _verdict(name: str, found: Difference, images: int) -> str:
    low, high = found.interval.low, found.interval.high
    numbers = f"{name} {found.value:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, p = {found.p:.3f}"
    over = f"over {images} images" if images > 1 else "over one image"
    if not found.is_real:
        return f"No real difference is shown between A and B: {numbers}, {over}."
    return f"A is really {'better' if found.value > 0 else 'worse'} than B: {numbers}, {over}."


def _title(evaluation: Evaluation) -> str:
    scores = evaluation.scores[0]
    images = f"{scores.images} image{'s' if scores.images > 1 else ''}"
    if isinstance(scores, InstanceScores):
        return f"Masks, boxes and boundaries, maxDets {scores.max_detections}, {images}"
    return f"Pixels, {images}"


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(first, title=title, title_justify="left")
    table.columns[0].overflow = "fold"
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _score(value: float) -> str:
    return "absent" if math.isnan(value) else f"{value:.4f}"


def _signed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.4f}"


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"


def _signed_interval(interval: Interval) -> str:
    return f"{interval.low:+.4f} to {interval.high:+.4f}"
