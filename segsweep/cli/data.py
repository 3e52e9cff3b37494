"""`segsweep data ...`: importing, converting, splitting, checking and synthesizing data sets.

Thin: every command calls one room of `segdata` and prints what it returns, as a table or with `--json`.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segdata.atomic import refuse_existing_file
from segdata.coco import read_coco, write_coco
from segdata.dataset_folder import open_dataset_folder
from segdata.dataset_split import Shares, split_instances, split_semantic
from segdata.defects import Defect, find_defects, find_leaks
from segdata.errors import DatasetError, InputError
from segdata.images import image_size
from segdata.importers import ImportReport, import_label_maps, import_mask_folders
from segdata.instances import InstanceDataset
from segdata.labelmaps import coco_to_labelmaps, read_labels
from segdata.splits import Split, write_split
from segdata.synthetic import synthesize
from segsweep.cli.image_progress import image_progress
from segsweep.cli.pseudo_label import pseudo_label
from segsweep.cli.submission import submission

__all__ = ["data_app"]

data_app = typer.Typer(
    help="Import, check, convert, split and synthesize labelled images.", no_args_is_help=True, rich_markup_mode=None
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ClassName = Annotated[str, typer.Option("--class", help="Name of the one class.")]
Scale = Annotated[float, typer.Option(help="Shrink images and labels once, e.g. 0.5; 1 keeps their size.")]

_SHOWN_REMARKS = 10
_SEVERITY_STYLE = {"error": "bold red", "warning": "yellow"}


@dataclass(frozen=True)
class _Checked:
    """One data set to check."""

    title: str
    images: Path
    annotations: Path | None
    labels: Path | None


@data_app.command("import-masks")
def import_masks(
    folder: Annotated[Path, typer.Argument(help="Holds one folder an image: <id>/masks/*.png and its image.")],
    out: Annotated[Path, typer.Argument(help="Dataset folder to write: images/ and annotations.json.")],
    class_name: ClassName = "object",
    scale: Scale = 1.0,
    as_json: AsJson = False,
) -> None:
    """Imports one mask file an object (0 and 1, or 0 and 255) as a data set with COCO annotations.

    Example: segsweep data import-masks stage1_train data/nuclei --class nucleus --scale 0.5
    """
    with image_progress("Importing") as on_image:
        report = import_mask_folders(folder, out, class_name=class_name, scale=scale, on_image=on_image)
    _print_import(report, out, as_json)


@data_app.command("import-labels")
def import_labels(
    out: Annotated[Path, typer.Argument(help="Dataset folder to write: images/ and annotations.json.")],
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    labels: Annotated[Path, typer.Option(help="Folder of label maps named like the images.")],
    class_name: ClassName = "object",
    scale: Scale = 1.0,
    as_json: AsJson = False,
) -> None:
    """Imports 8- or 16-bit label maps (0 background, 1..N objects) as a data set with COCO annotations.

    Example: segsweep data import-labels --images em/images --labels em/labels data/particles --class particle
    """
    with image_progress("Importing") as on_image:
        report = import_label_maps(images, labels, out, class_name=class_name, scale=scale, on_image=on_image)
    _print_import(report, out, as_json)


@data_app.command("to-labelmaps")
def to_labelmaps(
    coco: Annotated[Path, typer.Argument(help="COCO annotations (JSON).", metavar="COCO.json")],
    out: Annotated[Path, typer.Argument(help="Label folder to write: one PNG an image and classes.json.")],
    images: Annotated[Path | None, typer.Option(help="Images folder, to check names and sizes first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draws COCO objects as class-index PNGs for semantic segmentation; 0 is background.

    Where objects overlap, the smaller one lies on top; of equal areas the later id. Crowd regions become 255 (ignored).

    Example: segsweep data to-labelmaps data/train.json data/train_labels --images data/train
    """
    dataset = read_coco(coco)
    if images is not None:
        _check_sizes(dataset, images)
    coco_to_labelmaps(dataset, out)
    result = {"images": len(dataset.images), "classes": ["background", *dataset.class_names], "out": str(out)}
    _print(result, f"Wrote {len(dataset.images)} label maps and classes.json to {out}", as_json)


@data_app.command("split")
def split(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder, or COCO annotations (JSON).")],
    out: Annotated[Path, typer.Option(help="Split file to write.", metavar="FILE")],
    val: Annotated[float | None, typer.Option(help="Share for validation, 0.2 unless given; without folds.")] = None,
    test: Annotated[float, typer.Option(help="Share held back for the report.")] = 0.0,
    select: Annotated[float, typer.Option(help="Share held back for choosing ensembles.")] = 0.0,
    folds: Annotated[int, typer.Option(help="1 = one validation part; 5 = five-fold cross-validation.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same split.")] = 7,
    images: Annotated[Path | None, typer.Option(help="Images folder, if DATASET is a JSON file.")] = None,
    task: Annotated[
        Literal["instance", "semantic"] | None, typer.Option(help="Which labels, if the folder has both kinds.")
    ] = None,
    with_coco: Annotated[bool, typer.Option("--write-coco", help="Also write train.json, val.json ...")] = False,
    as_json: AsJson = False,
) -> None:
    """Splits a data set by seed: classes and object counts in proportion, copies of a picture on one side.

    Example: segsweep data split data/nuclei --out data/nuclei/split.json --val 0.2 --test 0.1 --seed 7
    """
    if folds > 1 and val is not None:
        raise InputError.of(
            f"expected either a share or folds, but got --val {val:g} and --folds {folds}",
            where="--val",
            cure="With folds each validation part is 1/folds; leave --val out.",
        )
    shares = Shares(val=0.2 if val is None else val, test=test, select=select, folds=folds, seed=seed)
    drawn, objects = _drawn_split(dataset, images, task, shares)
    if with_coco and objects is None:
        raise InputError.of("expected COCO annotations, but got label maps", where="--write-coco", cure="Leave it out.")
    parts = _coco_parts(drawn, out.parent) if with_coco else {}
    for path in (out, *parts):
        refuse_existing_file(path)
    for path, names in parts.items():
        assert objects is not None
        write_coco(objects.subset(names), path)
    write_split(drawn, out)
    _print_split(drawn, out, tuple(parts), as_json)


@data_app.command("check")
def check(
    datasets: Annotated[list[Path] | None, typer.Argument(help="Dataset folders.", metavar="[DATASET]...")] = None,
    annotations: Annotated[list[Path] | None, typer.Option(help="COCO annotations, with --images.")] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="Label folder, with --images.")] = None,
    images: Annotated[list[Path] | None, typer.Option(help="Images folder, one for each of the above.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows of the table to show.")] = 12,
    as_json: AsJson = False,
) -> None:
    """Lists what is wrong with data sets; exit code 1 if there are errors, 0 with only warnings.

    Several data sets are also compared: the same picture in two of them is an error.

    Example: segsweep data check --annotations data/train.json --images data/train
    """
    checked = _checked(datasets or [], annotations or [], labels or [], images or [])
    found: list[tuple[str, Defect]] = []
    for part in checked:
        defects = find_defects(images=part.images, annotations=part.annotations, labels=part.labels)
        found += [(part.title, defect) for defect in defects]
    found += [("all", defect) for defect in find_leaks([part.images for part in checked])]
    _print_defects(found, rows, as_json, several=len(checked) > 1)
    if any(defect.severity == "error" for _, defect in found):
        raise typer.Exit(1)


@data_app.command("synthesize")
def synthesize_dataset(
    kind: Annotated[str, typer.Argument(help="particles (instance) or litter (instance and semantic).")],
    out: Annotated[Path, typer.Argument(help="Dataset folder to write.")],
    images: Annotated[int, typer.Option(help="Number of images.")] = 40,
    size: Annotated[int, typer.Option(help="Side of the square images in pixels.")] = 128,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Makes a small labelled data set that a tiny network learns in a minute.

    Example: segsweep data synthesize particles data/particles --images 40 --size 128 --seed 7
    """
    synthesize(kind, out, images=images, size=size, seed=seed)
    dataset = read_coco(open_dataset_folder(out).annotations or out)
    result = {"images": len(dataset.images), "objects": len(dataset.objects), "out": str(out)}
    _print(result, f"Wrote {len(dataset.images)} images with {len(dataset.objects)} objects to {out}", as_json)


def _drawn_split(
    dataset: Path, images: Path | None, task: Literal["instance", "semantic"] | None, shares: Shares
) -> tuple[Split, InstanceDataset | None]:
    """Splits what the user named; the objects come along where the split is by objects."""
    if dataset.is_file():
        if task == "semantic":
            raise InputError.of(
                "expected a dataset folder with labels/, but got a file", where=dataset, cure="Name it."
            )
        objects = read_coco(dataset)
        return split_instances(objects, images, shares), objects
    folder = open_dataset_folder(dataset)
    chosen = task or ("instance" if folder.annotations else "semantic")
    if chosen == "instance" and folder.annotations:
        objects = read_coco(folder.annotations)
        return split_instances(objects, folder.images, shares), objects
    if chosen == "semantic" and folder.labels:
        return split_semantic(read_labels(folder.images, folder.labels), shares), None
    raise InputError.of(
        f"expected labels for the task {chosen}, but got only the other kind",
        where=dataset,
        cure="Leave --task out, or make them (`segsweep data to-labelmaps`).",
    )


def _coco_parts(drawn: Split, folder: Path) -> dict[Path, tuple[str, ...]]:
    """Names the COCO files of a split; the roles that hold no images get none."""
    parts: dict[str, tuple[str, ...]] = {}
    for number, fold in enumerate(drawn.folds, start=1):
        prefix = "" if len(drawn.folds) == 1 else f"fold{number}-"
        parts |= {f"{prefix}train": fold.train, f"{prefix}val": fold.val}
    parts |= {"test": drawn.test, "select": drawn.select}
    return {folder / f"{name}.json": names for name, names in parts.items() if names}


def _checked(
    datasets: list[Path], annotations: list[Path], labels: list[Path], images: list[Path]
) -> tuple[_Checked, ...]:
    if datasets and (annotations or labels or images):
        raise InputError("expected dataset folders or --annotations/--labels with --images, but got both. Choose one.")
    if datasets:
        folders = [(str(path), open_dataset_folder(path)) for path in datasets]
        return tuple(_Checked(title, f.images, f.annotations, f.labels) for title, f in folders)
    files = [(path, True) for path in annotations] + [(path, False) for path in labels]
    if not files:
        raise InputError("expected a dataset folder, --annotations or --labels, but got none. Name what to check.")
    if len(images) != len(files):
        raise InputError(
            f"expected one --images for each --annotations or --labels, but got {len(images)} for {len(files)}. "
            "Name them in the same order."
        )
    pairs = zip(files, images, strict=True)
    return tuple(
        _Checked(str(path), folder, path if is_coco else None, None if is_coco else path)
        for (path, is_coco), folder in pairs
    )


def _check_sizes(dataset: InstanceDataset, images: Path) -> None:
    for image in dataset.images:
        width, height = image_size(images / image.file_name)
        if (width, height) != (image.width, image.height):
            raise DatasetError.of(
                f"expected {image.width}x{image.height} pixels as annotated, but got {width}x{height}",
                where=images / image.file_name,
                cure="Run `segsweep data check` for all such images.",
            )


def _print(result: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _console().print(escape(text), soft_wrap=True)


def _print_import(report: ImportReport, out: Path, as_json: bool) -> None:
    remarks = [*report.remarks[:_SHOWN_REMARKS]]
    if len(report.remarks) > _SHOWN_REMARKS:
        remarks.append(f"... and {len(report.remarks) - _SHOWN_REMARKS} more remarks; --json lists all")
    lines = [f"Wrote {report.images} images with {report.objects} objects to {out}", *remarks]
    _print({**asdict(report), "out": str(out)}, "\n".join(lines), as_json)


def _print_split(drawn: Split, out: Path, parts: tuple[Path, ...], as_json: bool) -> None:
    if as_json:
        print(json.dumps({**asdict(drawn), "out": str(out), "coco": [str(path) for path in parts]}, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("fold", "train", "val", "test", "select"):
        table.add_column(name, justify="right")
    for number, fold in enumerate(drawn.folds, start=1):
        counts = (number, len(fold.train), len(fold.val), len(drawn.test), len(drawn.select))
        table.add_row(*map(str, counts))
    console = _console()
    console.print(table)
    for line in (*drawn.remarks, f"Wrote {', '.join(map(str, (out, *parts)))}"):
        console.print(escape(line), soft_wrap=True)


def _print_defects(found: list[tuple[str, Defect]], rows: int, as_json: bool, several: bool) -> None:
    errors = sum(defect.severity == "error" for _, defect in found)
    if as_json:
        defects = [{"dataset": title, **asdict(defect)} for title, defect in found]
        counts = {"errors": errors, "warnings": len(found) - errors}
        print(json.dumps({"ok": errors == 0, **counts, "defects": defects}, indent=2))
        return
    console = _console()
    if found:
        console.print(_defect_table(found[:rows], several))
    if len(found) > rows:
        console.print(f"... and {len(found) - rows} more; --rows {len(found)} or --json shows all")
    kinds = Counter(defect.kind for _, defect in found)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    console.print(f"{errors} errors, {len(found) - errors} warnings" + (f": {listed}" if listed else ""))


def _defect_table(found: list[tuple[str, Defect]], several: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    columns = (*(("data set",) if several else ()), "kind", "image", "id", "detail")
    for name in columns:
        on_one_line = name != "detail"
        cut: Literal["ellipsis", "fold"] = "ellipsis" if name == "image" else "fold"  # --json has the whole names
        table.add_column(
            name, overflow=cut, no_wrap=on_one_line, max_width=24 if name in ("data set", "image") else None
        )
    for title, defect in found:
        kind = f"[{_SEVERITY_STYLE[defect.severity]}]{defect.kind}[/]"
        cells = (escape(defect.image or ""), str(defect.annotation_id or ""), escape(defect.detail))
        table.add_row(*((escape(Path(title).name),) if several else ()), kind, *cells)
    return table


def _console() -> Console:
    return Console(highlight=False)


data_app.command("submission")(submission)
data_app.command("pseudo-label")(pseudo_label)
