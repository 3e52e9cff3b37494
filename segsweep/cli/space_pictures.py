"""`segsweep spaces show --pictures`: every augmentation step on an image of the user's own."""

from pathlib import Path

from search_spaces.augmentations import AUGMENTATION_STRENGTH
from search_spaces.knob import Task
from search_spaces.preset import PRESETS
from segdata.errors import InputError
from segsweep.sweep_file import load_sweep

__all__ = ["draw_pictures"]


def draw_pictures(
    out: Path,
    what: str | None,
    images: Path | None,
    *,
    image: str | None,
    task: Task | None,
    strength: float,
    seed: int,
) -> dict[str, object]:
    """Draws the sheet and returns what it shows.

    Args:
        out: The PNG file.
        what: A sweep file, whose training images are taken.
        images: A dataset folder, in its stead.
        image: File name of the image; None = an ordinary one.
        task: Which labels of a dataset folder; None = objects if it has any.
        strength: As the knob `augmentation_strength`.
        seed: Of the draws.

    Raises:
        InputError: It is not clear whose images to draw, or an option is wrong.
    """
    if (what is None) == (images is None) or what in PRESETS:
        given = "both" if images is not None and what is not None else f"the preset {what}" if what else "neither"
        raise InputError.of(
            f"expected a sweep file or --images, but got {given}",
            where="segsweep spaces show --pictures",
            cure="Give one: segsweep spaces show --pictures sheet.png sweep.yaml",
        )
    if what is not None and task is not None:
        raise InputError.of(
            "expected --task with --images only, but got a sweep file", where="--task", cure="Leave it out."
        )
    if out.suffix.lower() != ".png":
        raise InputError.of(f"expected a .png file, but got {out.name}", where="--pictures", cure="Name it sheet.png.")
    if not out.absolute().parent.is_dir():
        raise InputError.of("expected an existing folder", where=out.parent, cure="Create it, or write elsewhere.")
    if out.is_dir():
        raise InputError.of("expected a .png file, but got a folder", where=out, cure="Name a file in it.")
    if not AUGMENTATION_STRENGTH.accepts(strength):
        text = f"expected {AUGMENTATION_STRENGTH.domain_text()}, but got {strength}"
        raise InputError.of(text, where="--strength", cure="1 is the stock strength.")
    from segsweep.augmentation_sheet import augmentation_sheet, folder_data, sweep_data  # torch: seconds

    data = folder_data(images, task) if images is not None else sweep_data(load_sweep(Path(str(what))))
    try:
        shown, steps = augmentation_sheet(data, out, image=image, strength=strength, seed=seed)
    except OSError as error:
        problem = f"expected a folder to write to, but {out.name} could not be written"
        raise InputError.of(problem, where=out.absolute().parent, cure="Write elsewhere.") from error
    return {"pictures": str(out), "image": shown, "steps": list(steps)}
