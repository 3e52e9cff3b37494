"""What `scheduler: pbt` refuses before anything is started, with the line of the key."""

from collections.abc import Callable
from pathlib import Path

import pytest

from segdata.errors import SweepFileError
from segdata.synthetic import synthesize
from segsweep.sweep_file import Sweep, load_sweep

TEXT = """\
name: litter
task: semantic
data:
  train: {images: data/images, labels: data/labels}
  val: {images: data/images, labels: data/labels}
search:
  scheduler:
    pbt:
      perturb: [lr, weight_decay]
budget: {trials: 8}
space:
  lr: {float: [1e-5, 1e-1], log: true}
  weight_decay: {float: [0.0, 0.1]}
  brightness: {float: [0, 1]}
fixed: {model: segformer, backbone: mit-b0, optimizer: adamw, epochs: 4}
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Sweep]:
    """Returns a function that reads a sweep file with this text, beside real images."""
    synthesize("litter", tmp_path / "data", 2, 64, 7)

    def read(text: str) -> Sweep:
        (tmp_path / "sweep.yaml").write_text(text)
        return load_sweep(tmp_path / "sweep.yaml")

    return read


def test_a_population_is_read(load: Callable[[str], Sweep]) -> None:
    pbt = load(TEXT).config.search.scheduler.pbt
    assert pbt is not None and pbt.perturb == ("lr", "weight_decay")
    assert (pbt.interval_epochs, pbt.quantile, pbt.resample_probability) == (1, 0.25, 0.25)
    short = TEXT.replace("scheduler:\n    pbt:\n      perturb: [lr, weight_decay]", "scheduler: pbt")
    assert load(short).config.search.scheduler.pbt is not None
    linked = TEXT.replace("{float: [0.0, 0.1]}", "{linked: lr, factor: 0.5}").replace(", weight_decay]", "]")
    assert load(linked).config.search.scheduler.pbt is not None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[lr, weight_decay]",
            "[lr, batch_size]",
            r"sweep.yaml:9: search.scheduler.pbt.perturb.1: expected a knob that can change in flight \(lr, "
            "weight_decay, or of the augmentation\\), but got 'batch_size'. "
            "Choose from lr, weight_decay, brightness",
        ),
        ("[lr, weight_decay]", "[lr, flip]", "9: .*perturb.1: expected a knob that the space searches, .*got 'flip'"),
        ("[lr, weight_decay]", "[lr, lr]", "9: .*perturb.1: expected a knob that the space searches, once, .*'lr'"),
        ("[lr, weight_decay]", "[]\n      interval_epochs: 0", "10: search.scheduler.pbt.interval_epochs: .*got 0"),
        ("[lr, weight_decay]", "[]\n      quantile: 0.6", "10: search.scheduler.pbt.quantile: .*0.5, but got 0.6"),
        (
            "optimizer: adamw, epochs: 4}",
            "epochs: 4}\noverrides:\n  model.decode_head.dropout_ratio: {float: [0.0, 0.5]}",
            "7: search.scheduler: .*also searches model.decode_head.dropout_ratio. Put each under `fixed`",
        ),
        ("  brightness: {f", "  batch_size: {int: [1, 4]}\n  brightness: {f", "7: .*also searches batch_size. Put"),
        ("trials: 8", "trials: 3", "10: budget.trials: expected a population of 4 trials or more for pbt, but got 3"),
        ("trials: 8", "trials: 8, patience: 2", "10: budget.patience: expected no patience beside pbt, .*got 2"),
    ],
)
def test_what_cannot_be_exchanged_is_refused(load: Callable[[str], Sweep], old: str, new: str, message: str) -> None:
    with pytest.raises(SweepFileError, match=message):
        load(TEXT.replace(old, new))


def test_a_space_without_a_knob_that_can_change_is_refused(load: Callable[[str], Sweep]) -> None:
    begin, end = TEXT.index("space:"), TEXT.index("fixed:")
    text = TEXT[:begin] + "space:\n  batch_size: {int: [1, 4]}\n" + TEXT[end:]
    short = text.replace("scheduler:\n    pbt:\n      perturb: [lr, weight_decay]", "scheduler: pbt")
    with pytest.raises(SweepFileError, match="7: search.scheduler: expected a space that searches a knob that can"):
        load(short)


def test_a_knob_under_a_condition_is_refused(load: Callable[[str], Sweep]) -> None:
    text = TEXT.replace("brightness: {float: [0, 1]}", "brightness: {float: [0, 1], when: {flip: [0.5]}}")
    text = text.replace("space:\n", "space:\n  flip: {choice: [0.0, 0.5]}\n")
    with pytest.raises(SweepFileError, match="7: search.scheduler: expected knobs that every trial has, .*brightness"):
        load(text)
