"""The demo: synthetic pictures, then a whole sweep and an ensemble for both tasks, by the same rooms as the commands.

The sweep files that it writes into its folder are ordinary ones: a user may edit and run them.
"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from segdata.coco import read_coco
from segdata.dataset_folder import open_dataset_folder
from segdata.dataset_split import Shares, split_instances, split_semantic
from segdata.errors import InputError
from segdata.labelmaps import read_labels
from segdata.splits import write_split
from segdata.synthetic import synthesize
from segsweep.data_roles import read_roles
from segsweep.driver import SweepResult, start
from segsweep.ensembles.building import EnsembleResult, build_ensembles
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.pictures import comparison_sheet
from segsweep.predicting import How
from segsweep.sweep_file import Sweep, load_sweep

__all__ = ["DemoResult", "run_demo"]

PARTICLES = """\
# Instance segmentation: overlapping, blurred particles.
name: particles-demo
project: demo
task: instance
data: {dataset: particles, split: particles/split.json}
metric: segm_mAP
search:
  scheduler: {asha: {grace_epochs: 3, reduction_factor: 2}}
  seed: 7
budget: {trials: 5, concurrent: 2}
space:
  model: {choice: [mask-rcnn, ms-rcnn]}
  lr: {float: [5e-4, 4e-3], log: true}
fixed:  # a network small enough to learn on two CPUs in half a minute
  backbone: r18
  width: 0.25
  head_width: 0.125
  rois_per_image: 32
  crop_size: 96
  optimizer: adamw
  batch_size: 2
  epochs: 12
  validation_interval: 3
"""

LITTER = """\
# Semantic segmentation: litter-like scenes with a rare class.
name: litter-demo
project: demo
task: semantic
data: {dataset: litter, split: litter/split.json}
metric: mIoU
search:
  scheduler: {asha: {grace_epochs: 6, reduction_factor: 2}}
  seed: 7
budget: {trials: 5, concurrent: 2}
space:
  lr: {float: [2e-3, 5e-3], log: true}
  flip: {float: [0.0, 0.5]}
fixed:
  model: segformer
  backbone: mit-b0
  head_width: 0.25
  crop_size: 96
  optimizer: adamw
  batch_size: 4
  epochs: 24
  validation_interval: 6
"""


@dataclass(frozen=True, slots=True)
class DemoTask:
    """One half of the demo."""

    kind: str
    sweep_file: str
    text: str
    method: str
    images: int


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What one half leaves."""

    sweep: Sweep
    trials: SweepResult
    ensemble: EnsembleResult
    picture: Path


TASKS = (
    DemoTask("particles", "particles.yaml", PARTICLES, "wbf", images=48),
    DemoTask("litter", "litter.yaml", LITTER, "soft-vote", images=64),
)


def run_demo(out: Path, threads: int, console: Console) -> tuple[DemoResult, ...]:
    """Runs both halves into `out`.

    Raises:
        InputError: The folder holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError.of(
            "expected a new or empty folder for the demo, but got one with content",
            where=out,
            cure="Choose another one by --out, or remove it.",
        )
    return tuple(run_task(task, out, threads, console) for task in TASKS)


def run_task(task: DemoTask, out: Path, threads: int, console: Console) -> DemoResult:
    """Synthesizes, splits, sweeps and fuses one kind of picture."""
    console.rule(f"{task.kind}: {task.images} synthetic images")
    folder = synthesize(task.kind, out / task.kind, images=task.images, size=128, seed=7)
    split_demo(task, folder)
    sweep_file = out / task.sweep_file
    sweep_file.write_text(task.text)
    sweep = load_sweep(sweep_file)
    trials = start(sweep, console)
    top = min(3, sum(record.best_epoch is not None for record in trials.records))
    wanted = EnsembleConfig(top=top, methods=(task.method,))
    ensemble = build_ensembles(sweep, wanted, None, How(threads=threads), console)
    truth = read_roles(sweep).roles[ensemble.role]
    picture = comparison_sheet(truth, ensemble.ensembles[0].predictions, out / f"{task.kind}-predictions.png")
    return DemoResult(sweep, trials, ensemble, picture)


def split_demo(task: DemoTask, folder: Path) -> None:
    """Writes the split file that the sweep file names."""
    parts = open_dataset_folder(folder)
    shares = Shares(val=0.2, test=0.2, seed=7)
    if task.method == "wbf":
        assert parts.annotations is not None
        split = split_instances(read_coco(parts.annotations), parts.images, shares)
    else:
        assert parts.labels is not None
        split = split_semantic(read_labels(parts.images, parts.labels), shares)
    write_split(split, folder / "split.json")
