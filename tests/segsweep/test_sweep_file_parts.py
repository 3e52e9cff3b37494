"""Sweep files in parts: several presets, and files that are included."""

from pathlib import Path

import pytest

from segdata.errors import InputError, SpaceError, SweepFileError
from segsweep.sweep_file import SweepConfig, load_sweep, resolve_sweep

START = """\
name: parts
task: instance
data: {train: {annotations: a.json, images: i}, val: {annotations: a.json, images: i}}
budget: {trials: 3}
"""

STEPS = """\
space:
  shear: {choice: [0.0, 0.5]}
  rotate: {choice: [0.0, 0.5]}
fixed: {flip: 0.5}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "i").mkdir()
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "fragments").mkdir()
    (tmp_path / "fragments" / "steps.yaml").write_text(STEPS)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(START + text)
    return path


def knobs(path: Path) -> set[str]:
    return {parameter.knob for parameter in load_sweep(path).space.parameters}


def test_several_presets_the_later_one_winning(folder: Path) -> None:
    sweep = load_sweep(write(folder, "preset: [particles, nuclei]\nfixed: {batch_size: 4}\n"))
    assert sweep.space.fixed["model"] == "mask-rcnn"  # of nuclei
    assert sweep.space.fixed["batch_size"] == 4  # the own one over that of nuclei
    assert {"rpn_positive_iou", "rois_per_image"} <= {parameter.knob for parameter in sweep.space.parameters}
    assert sweep.preset is not None and sweep.preset.name == "particles + nuclei"
    assert len(sweep.notes) == 1
    assert sweep.notes[0].startswith("preset nuclei wins over particles on model, ")
    assert "leaves no place for its epochs, cascade_iou_low, cascade_iou_high" in sweep.notes[0]


def test_drop_takes_away_from_all_presets(folder: Path) -> None:
    path = write(folder, "preset: {name: [particles, nuclei], drop: [shear, lr]}\n")
    assert not {"shear", "lr"} & knobs(path)


def test_presets_come_back_from_the_config_as_a_resume_reads_it(folder: Path) -> None:
    sweep = load_sweep(write(folder, "preset: {name: [particles, nuclei], drop: [shear]}\n"))
    built = SweepConfig.model_validate_json(sweep.config.model_dump_json(exclude_unset=True))
    assert resolve_sweep(built, folder).space == sweep.space


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: []\n", "expected the name of a preset, but got an empty list. Name one, or drop `preset`"),
        ("preset: [nuclei, nuclei]\n", "sweep.yaml:5: preset: expected each preset once, but got nuclei twice"),
        ("preset: [nuclei, 5]\n", "expected a valid string, but got 5"),
        ("preset: [nuclei, particle]\n", r"sweep.yaml:5: .*but got 'particle'\. Did you mean particles\?"),
        ("preset: [nuclei, litter-solo]\n", "for the task instance, but got litter-solo, which is semantic"),
        (
            "preset: {name: [nuclei, particles], drop: [shera]}\n",
            r"preset.drop.0: expected a knob of the preset nuclei \+ particles, but got 'shera'\. Did you mean shear",
        ),
    ],
)
def test_wrong_presets_are_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(SweepFileError, match=message):
        load_sweep(write(folder, text))


def test_an_included_file_adds_its_entries_and_the_own_ones_win(folder: Path) -> None:
    path = write(folder, "include: fragments/steps.yaml\nfixed: {model: mask-rcnn, shear: 0.3}\n")
    sweep = load_sweep(path)
    assert [parameter.knob for parameter in sweep.space.parameters] == ["rotate"]
    assert sweep.space.fixed == {"flip": 0.5, "model": "mask-rcnn", "shear": 0.3}
    assert sweep.notes == ()


def test_an_included_file_wins_over_a_preset(folder: Path) -> None:
    sweep = load_sweep(write(folder, "preset: particles\ninclude: [fragments/steps.yaml]\n"))
    assert sweep.space.fixed["flip"] == 0.5  # searched by the preset


def test_a_later_included_file_wins_and_that_is_told(folder: Path) -> None:
    (folder / "more.yaml").write_text("space: {shear: {choice: [0.1, 0.2]}}\nforbid: [{shear: 0.1, rotate: 0.5}]\n")
    path = write(folder, "include: [fragments/steps.yaml, more.yaml]\nfixed: {model: mask-rcnn}\n")
    sweep = load_sweep(path)
    shear = next(parameter for parameter in sweep.space.parameters if parameter.knob == "shear")
    assert shear.domain.edges() == (0.1, 0.2)
    assert sweep.space.forbid == ((("shear", (0.1,)), ("rotate", (0.5,))),)
    assert sweep.notes == ("more.yaml wins over what is included before it on shear",)


def test_an_own_entry_takes_the_place_of_an_included_one_that_it_excludes(folder: Path) -> None:
    (folder / "plan.yaml").write_text("fixed: {epochs: 12}\n")
    path = write(folder, "include: plan.yaml\nfixed: {model: mask-rcnn, max_iters: 500}\n")
    assert load_sweep(path).space.fixed == {"model": "mask-rcnn", "max_iters": 500}


def test_the_kept_text_needs_no_included_file(folder: Path) -> None:
    sweep = load_sweep(write(folder, "include: fragments/steps.yaml\nspace: {lr: {float: [1e-5, 0.1], log: true}}\n"
                                     "preset: nuclei\nforbid: [{shear: 0.5, rotate: 0.5}]\n"))  # fmt: skip
    kept = folder / "kept.yaml"
    kept.write_text(sweep.text())
    (folder / "fragments" / "steps.yaml").unlink()
    again = load_sweep(kept)
    assert again.space == sweep.space
    assert again.text() == sweep.text()


def test_the_kept_text_is_the_sweep_file_itself_where_nothing_is_included(folder: Path) -> None:
    path = write(folder, "fixed: {model: mask-rcnn}  # the plain one\n")
    assert load_sweep(path).text() == path.read_text()


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        ("space:\n  shaer: {choice: [0.0, 0.5]}\n", r"part.yaml:2: space.shaer: .*Did you mean shear\?"),
        ("budget: {trials: 3}\n", r"part.yaml:1: budget: expected .* in a file that is included, but got 'budget'"),
        ("include: [other.yaml]\n", "part.yaml:1: include: expected variables, space, fixed"),
        ("space: 5\n", "part.yaml:1: space: expected `key: value` lines, but got 5"),
        ("forbid: {model: a}\n", "part.yaml:1: forbid: expected a list"),
        ("forbid:\n- {shear: 0.1}\n", "part.yaml:2: forbid.0.shear: expected a knob that the space searches or fixes"),
        ("space:\n  shear: {choice: [0.0, 0.5]}\n  lr: {float: [0, 1], when: {shear: 0.3}}\n", "part.yaml:3: space.lr"),
        ("- 5\n", "part.yaml: expected `key: value` lines, but got a list"),
        ("fixed: {flip: [\n", "part.yaml:2: expected YAML, but got a syntax error"),
    ],
)
def test_a_wrong_included_file_is_refused_with_its_own_line(folder: Path, fragment: str, message: str) -> None:
    (folder / "part.yaml").write_text(fragment)
    own = "fixed: {model: mask-rcnn}\n"
    with pytest.raises(InputError, match=message):
        load_sweep(write(folder, "include: part.yaml\n" + own))


def test_a_wrong_own_entry_beside_an_included_file_is_refused_with_its_line(folder: Path) -> None:
    with pytest.raises(SpaceError, match=r"sweep.yaml:7: forbid.0.lr: expected a knob that"):
        load_sweep(write(folder, "include: fragments/steps.yaml\nfixed: {model: mask-rcnn}\nforbid: [{lr: 0.1}]\n"))


def test_a_missing_included_file_is_refused(folder: Path) -> None:
    with pytest.raises(SweepFileError, match=r"sweep.yaml:5: include.0: expected a YAML file to include, but got noth"):
        load_sweep(write(folder, "include: fragments/step.yaml\nfixed: {model: mask-rcnn}\n"))


FUNCTION = """\
def space(trial):
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "adamw"])
    if optimizer == "sgd":
        trial.suggest_float("momentum", 0.8, 0.99)
    return {"model": "mask-rcnn", "batch_size": 2}
"""


def test_a_function_as_the_space(folder: Path) -> None:
    (folder / "my_space.py").write_text(FUNCTION)
    sweep = load_sweep(
        write(folder, "space: my_space.py:space\nfixed: {batch_size: 4}\nforbid: [{optimizer: adamw, batch_size: 4}]\n")
    )
    assert [parameter.id for parameter in sweep.space.parameters] == ["optimizer", "momentum"]
    assert sweep.space.parameters[1].when == (("optimizer", ("sgd",)),)
    assert sweep.space.fixed == {"model": "mask-rcnn", "batch_size": 4}  # the sweep file's own entry wins
    kept = folder / "kept.yaml"
    kept.write_text(sweep.text())
    (folder / "my_space.py").unlink()
    assert load_sweep(kept).space == sweep.space


def test_a_function_wins_over_included_files_and_presets(folder: Path) -> None:
    (folder / "my_space.py").write_text("def space(trial):\n    return {'flip': 0.25, 'lr': 0.001}\n")
    sweep = load_sweep(write(folder, "space: my_space.py:space\npreset: nuclei\ninclude: fragments/steps.yaml\n"))
    assert (sweep.space.fixed["flip"], sweep.space.fixed["lr"]) == (0.25, 0.001)
    assert {"shear", "rois_per_image"} <= {parameter.knob for parameter in sweep.space.parameters}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "space: my_space.py\n",
            r"sweep.yaml:5: space: expected `key: value` lines or FILE.py:FUNCTION, but got 'my_sp",
        ),
        ("space: my_spaces.py:space\n", "sweep.yaml:5: space: expected a Python file, but got nothing at"),
        ("space: my_space.py:spaces\n", "sweep.yaml:5: space: expected a function spaces in"),
        ("space: 5\n", "sweep.yaml:5: space: expected `key: value` lines, but got 5"),
        ("space: my_space.py:space\nfixed: {optimizer: adam}\n", "my_space.py:4: momentum.*"),
    ],
)
def test_functions_that_are_refused(folder: Path, text: str, message: str) -> None:
    (folder / "my_space.py").write_text(FUNCTION)
    with pytest.raises(InputError, match=message):
        load_sweep(write(folder, text))


def test_variables_and_links_of_a_sweep_file(folder: Path) -> None:
    sweep = load_sweep(
        write(
            folder,
            "variables: {rate: {float: [1e-4, 1e-2], log: true}}\nfixed: {model: mask-rcnn, batch_size: 4}\n"
            "space: {lr: {linked: [rate, batch_size]}}\n",
        )
    )
    assert sweep.space.decode({"rate": 0.001}).optimization.lr == 0.004


def blocks(heading: str) -> list[str]:
    """Returns the code of a section of the guide."""
    guide = (Path(__file__).parents[2] / "docs" / "sweep-file.md").read_text()
    section = guide.split(f"\n### {heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    return [block.split("\n", 1)[1] for block in section.split("```")[1::2]]


def test_the_linked_values_of_the_guide(folder: Path) -> None:
    sweep = load_sweep(write(folder, blocks("Linked values")[0] + "fixed: {model: mask-rcnn}\n"))
    trial = sweep.space.decode({"rate": 1e-3, "widest": 2.0, "batch_size": 4, "optimizer": "sgd"})
    assert trial.optimization.lr == 0.004
    assert trial.overrides == (("model.rpn_head.anchor_generator.ratios", (0.5, 1.0, 2.0)),)
    trial = sweep.space.decode({"rate": 1e-3, "widest": 2.0, "batch_size": 4, "optimizer": "adamw"})
    assert trial.optimization.lr == pytest.approx(2e-4)


def test_the_space_function_of_the_guide(folder: Path) -> None:
    text, code = blocks("A space in Python")
    (folder / "my_space.py").write_text(code)
    sweep = load_sweep(write(folder, text))
    assert [parameter.id for parameter in sweep.space.parameters] == [
        "optimizer",
        "lr[optimizer=sgd]",
        "lr[optimizer=adamw]",
        "momentum",
        "model.test_cfg.rcnn.nms.iou_threshold",
    ]
