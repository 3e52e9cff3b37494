"""Sweep files: what they say, what they default to, and every refusal with its file, line and key."""

import textwrap
from pathlib import Path

import pytest
from pydantic import ValidationError

from segdata.errors import InputError, SpaceError, SweepFileError
from segsweep.sweep_file import SweepConfig, load_sweep, resolve_sweep

SWEEP = """\
name: nuclei-search
project: nuclei
task: instance
data:
  train: {annotations: data/train.json, images: data/train}
  val:   {annotations: data/val.json,   images: data/val}
metric: segm_mAP
mode: max
search:
  strategy: joint
  sampler: tpe
  scheduler: {asha: {grace_epochs: 2, reduction_factor: 3}}
  folds: 1
  seed: 7
budget: {trials: 40, hours: 12, concurrent: 4}
resources: auto
space:
  model:     {choice: [mask-rcnn, cascade-mask-rcnn, ms-rcnn]}
  backbone:  {choice: [r50, r101, x101-32x4d]}
  optimizer: {choice: [sgd, adadelta, adamw]}
  lr:
    - {when: {optimizer: sgd},      float: [1e-3, 1e-1], log: true}
    - {when: {optimizer: adamw},    float: [1e-5, 1e-3], log: true}
    - {when: {optimizer: adadelta}, float: [0.1, 2.0]}
  epochs:    {int: [9, 15]}
  cascade_iou_low:  {float: [0.2, 0.5], when: {model: cascade-mask-rcnn}}
overrides:
  model.test_cfg.rcnn.nms.iou_threshold: {float: [0.3, 0.7]}
forbid:
  - {model: ms-rcnn, optimizer: adadelta}
fixed: {image_width: 1280, image_height: 1024, batch_size: 2, init: imagenet}
custom_imports: [my_modules]
storage: {path: runs, keep_checkpoints: 5}
tracking: {uri: "sqlite:///mlflow.db"}
ensemble: {top: 5, methods: [wbf]}
"""

SHORT = """\
name: short
task: instance
data:
  train: {annotations: data/train.json, images: data/train}
  val: {annotations: data/val.json, images: data/val}
budget: {trials: 1}
fixed: {model: mask-rcnn}
"""

SEMANTIC = """\
name: litter
task: semantic
data:
  train: {labels: labels, images: data/train}
  val: {labels: labels, images: data/val}
  unlabelled: {images: data/val}
budget: {trials: 4}
space:
  model: {choice: [segformer, deeplabv3plus]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds the images and labels that the sweep files of this module name."""
    for name in ("data/train", "data/val", "labels", "set/images", "set/labels"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("data/train.json", "data/val.json", "set/annotations.json", "set/split.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(textwrap.dedent(text))
    return path


def test_the_sweep_file_of_the_design_is_read(folder: Path) -> None:
    sweep = load_sweep(write(folder, SWEEP))
    config = sweep.config
    assert (config.name, sweep.project, config.task, config.metric) == (
        "nuclei-search",
        "nuclei",
        "instance",
        "segm_mAP",
    )
    assert config.search.scheduler.asha is not None
    assert config.search.scheduler.asha.grace_epochs == 2
    assert (config.budget.trials, config.budget.hours, config.budget.concurrent) == (40, 12, 4)
    assert (config.resources.cpu, config.resources.gpu) == (None, None)
    assert config.custom_imports == ("my_modules",)
    assert config.ensemble_methods() == ("wbf",)
    assert sweep.data.roles["train"].annotations == folder / "data" / "train.json"
    assert sweep.data.roles["val"].images == folder / "data" / "val"
    assert sweep.storage == folder / "runs"
    assert sweep.path == folder / "runs" / "nuclei-search"
    assert sweep.tracking_uri == f"sqlite:///{folder}/mlflow.db"
    assert len(sweep.space.parameters) == 9
    assert sweep.space.parameters[3].domain.edges() == (0.001, 0.1)


def test_defaults(folder: Path) -> None:
    sweep = load_sweep(write(folder, SHORT))
    config = sweep.config
    assert (config.metric, config.mode, sweep.project) == ("segm_mAP", "max", "short")
    assert (config.search.sampler.name, config.search.scheduler.asha, config.search.seed) == ("tpe", None, 0)
    assert (config.max_failures, config.trial_timeout_minutes) == (2, None)
    assert sweep.tracking_uri == f"sqlite:///{folder}/mlflow.db"
    assert sweep.space.decode({}).model.name == "mask-rcnn"


def test_a_sweep_on_a_preset(folder: Path) -> None:
    sweep = load_sweep(write(folder, SHORT + "preset: {name: particles, drop: [image_width]}\n"))
    assert sweep.preset is not None and sweep.preset.report == "000"
    searched = {parameter.knob for parameter in sweep.space.parameters}
    assert {"backbone", "optimizer", "rcnn_positive_iou"} <= searched
    assert "cascade_iou_low" not in searched  # the own model, mask-rcnn, does not take it
    assert sweep.space.fixed == {"model": "mask-rcnn", "image_height": 1024}
    assert sweep.config.preset is not None and sweep.config.preset.drop == ("image_width",)
    built = SweepConfig.model_validate(sweep.config.model_dump(exclude_unset=True))  # as a resume reads it
    assert resolve_sweep(built, folder).space == sweep.space


def test_a_semantic_sweep(folder: Path) -> None:
    sweep = load_sweep(write(folder, SEMANTIC))
    assert sweep.config.metric == "mIoU"
    assert sweep.config.ensemble_methods() == ("soft-vote",)
    assert sweep.data.roles["train"].labels == folder / "labels"
    assert sweep.data.roles["unlabelled"].labels is None


def test_a_dataset_folder_with_a_split(folder: Path) -> None:
    text = SHORT.replace(
        SHORT[SHORT.index("data:") : SHORT.index("budget")], "data: {dataset: set, split: set/split.json}\n"
    )
    sweep = load_sweep(write(folder, text))
    assert sweep.project == "set"
    assert sweep.data.split == folder / "set" / "split.json"
    assert sweep.data.dataset is not None
    assert (sweep.data.dataset.annotations, sweep.data.dataset.labels) == (folder / "set" / "annotations.json", None)
    (folder / "set" / "annotations.json").unlink()
    with pytest.raises(
        SweepFileError, match="sweep.yaml:3: data.dataset: expected annotations.json in set, but got none"
    ):
        load_sweep(write(folder, text))
    (folder / "set" / "split.json").unlink()
    semantic = text.replace("instance", "semantic").replace("mask-rcnn", "segformer")
    with pytest.raises(SweepFileError, match="sweep.yaml:3: data.split: expected a split file, but got nothing at"):
        load_sweep(write(folder, semantic))


def test_paths_are_taken_from_the_sweep_files_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, SHORT)
    monkeypatch.chdir(folder.parent)
    sweep = load_sweep(Path(folder.name) / "sweep.yaml")
    assert sweep.data.roles["train"].images == folder / "data" / "train"
    assert sweep.source == folder / "sweep.yaml"


@pytest.mark.parametrize(
    ("uri", "resolved"),
    [
        ("sqlite:////abs/mlflow.db", "sqlite:////abs/mlflow.db"),
        ("sqlite:///sub/mlflow.db", "sqlite:///{folder}/sub/mlflow.db"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("postgresql://user@host/db", "postgresql://user@host/db"),
    ],
)
def test_tracking_uris(folder: Path, uri: str, resolved: str) -> None:
    sweep = load_sweep(write(folder, SHORT + f"tracking: {{uri: '{uri}'}}\n"))
    assert sweep.tracking_uri == resolved.format(folder=folder)


@pytest.mark.parametrize("uri", ["mlruns", "file:mlruns", "file:///abs/mlruns", "ftp://host"])
def test_a_store_that_mlflow_no_longer_keeps_runs_in_is_refused(folder: Path, uri: str) -> None:
    with pytest.raises(InputError, match=r"sweep\.yaml:\d+.*tracking.*expected sqlite:///FILE"):
        load_sweep(write(folder, SHORT + f"tracking: {{uri: '{uri}'}}\n"))


@pytest.mark.parametrize(
    ("form", "grace"), [("none", None), ("asha", 1), ("{asha: }", 1), ("{asha: {grace_epochs: 4}}", 4)]
)  # fmt: skip
def test_forms_of_the_scheduler(folder: Path, form: str, grace: int | None) -> None:
    scheduler = load_sweep(write(folder, SHORT + f"search: {{scheduler: {form}}}\n")).config.search.scheduler
    assert (scheduler.asha.grace_epochs if scheduler.asha else None) == grace


def test_a_config_built_in_python_is_the_one_that_is_read(folder: Path) -> None:
    role = {"annotations": "data/train.json", "images": "data/train"}
    config = SweepConfig.model_validate(
        {"name": "short", "task": "instance", "data": {"train": role, "val": role}, "budget": {"trials": 1}}
    )
    with pytest.raises(SpaceError, match="sweep: space: expected a model"):
        resolve_sweep(config, folder)
    sweep = resolve_sweep(config.model_copy(update={"fixed": {"model": "ms-rcnn"}}), folder)
    assert sweep.source is None
    assert sweep.data.roles["val"].images == folder / "data" / "train"
    with pytest.raises(ValidationError, match="frozen"):
        config.name = "other"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "budget: {trials",
            "budgte: {trials",
            r"15: budgte: expected a known key, but got 'budgte'. Did you mean budget\?",
        ),
        ("trials: 40", "trails: 40", r"15: budget.trails: .*Did you mean trials\?"),
        ("trials: 40", "trials: 0", "15: budget.trials: expected a number greater than or equal to 1, but got 0"),
        ("trials: 40", "trials: '40'", "15: budget.trials: expected a valid integer, but got '40'"),
        ("trials: 40", "trials: true", "15: budget.trials: expected a valid integer, but got True"),
        ("trials: 40, ", "", "15: budget.trials: expected trials, but got none. Add trials: ..."),
        ("hours: 12", "hours: -1", "15: budget.hours: expected a number greater than 0, but got -1"),
        ("hours: 12", "patiense: 3", r"15: budget.patiense: .*Did you mean patience\?"),
        ("name: nuclei-search", "name: a b", "1: name: expected letters, digits, .*but got 'a b'"),
        ("task: instance", "task: instanc", "3: task: expected 'instance' or 'semantic', .*Did you mean instance"),
        ("task: instance\n", "", "1: task: expected task, but got none"),
        ("metric: segm_mAP", "metric: segm_map", r"7: metric: .*got 'segm_map'. Did you mean segm_mAP\?"),
        ("metric: segm_mAP", "metric: mIoU", "7: metric: expected a metric of the task instance, but got 'mIoU'"),
        ("metric: segm_mAP", "metric: my.py:score", "7: metric: expected a Python file at .*my.py, but got: No such"),
        ("mode: max", "mode: min", "8: mode: expected max, because more segm_mAP is better, but got min"),
        ("strategy: joint", "strategy: {staged: {}}", "10: search.strategy: .*but got staged, which is not in this"),
        ("sampler: tpe", "sampler: tp", r"11: search.sampler: .*but got 'tp'. Did you mean tpe\?"),
        (
            "{asha: {grace_epochs: 2, reduction_factor: 3}}",
            "pbt",
            "12: search.scheduler: expected trials that can go on from each other's states, .* also searches .*epochs",
        ),
        ("grace_epochs: 2", "grace: 2", r"12: search.scheduler.asha.grace: .*Did you mean grace_epochs\?"),
        ("reduction_factor: 3", "reduction_factor: 1", "12: .*reduction_factor: .*greater than 1, but got 1"),
        ("folds: 1", "folds: 5", "13: search.folds: expected 1, but got 5; several folds a trial are not in this"),
        ("resources: auto", "resources: max", "16: resources: expected auto or {cpu: ..., gpu: ...}, but got 'max'"),
        ("resources: auto", "resources: {gpu: 1.5}", "16: resources.gpu: expected a share below 1 or a whole"),
        ("resources: auto", "resources: {cpu: 0}", "16: resources.cpu: expected a number greater than 0, but got 0"),
        (
            "resources: auto",
            "resources: {gpu: 1, gpu_memory_gb: 24}",
            "16: resources: expected gpu or gpu_memory_gb, but got both, 1 and 24. Drop one",
        ),
        (
            "resources: auto",
            "resources: {models: {mask_rcnn: {gpu: 1}}}",
            "16: resources.models.mask_rcnn: expected a model of the space, mask-rcnn, cascade-mask-rcnn, ms-rcnn, "
            r"but got 'mask_rcnn'. Did you mean mask-rcnn\?",
        ),
        (
            "resources: auto",
            "resources: {models: {mask-rcnn: {gpus: 1}}}",
            r"16: resources.models.mask-rcnn.gpus: expected a known key, but got 'gpus'. Did you mean gpu\?",
        ),
        (
            "resources: auto",
            "resources: {models: {mask-rcnn: {gpu: 1.5}}}",
            "16: resources.models.mask-rcnn.gpu: expected a share below 1 or a whole number, but got 1.5",
        ),
        ("{int: [9, 15]}", "{int: [15, 9]}", r"25: space.epochs.int: .*\[15, 9\], the wrong way round"),
        ("float: [1e-5, 1e-3], log", "flaot: [1e-5, 1e-3], log", r"23: space.lr.1.flaot: .*Did you mean float\?"),
        ("optimizer: {choice", "optimiser: {choice", r"20: space.optimiser: .*Did you mean optimizer\?"),
        ("[0.3, 0.7]", "[0.3, 0.3]", "28: overrides.model.test_cfg.rcnn.nms.iou_threshold.float: expected low < high"),
        ("{model: ms-rcnn, optimizer", "{model: msrcnn, optimizer", r"30: forbid.0.model: .*mean ms-rcnn\?"),
        ("batch_size: 2", "batch_size: 0", "31: fixed.batch_size: expected batch_size to be 1 to 1024, but got 0"),
        ("[my_modules]", "[my_modules.py!]", "32: custom_imports: expected a module's name"),
        ("[wbf]", "[wbf, soft-vote]", "35: ensemble.methods.1: expected an ensemble method of the task instance"),
        ("methods: [wbf]", "select: genetic", "35: ensemble.select.0: expected 'all' or 'greedy'"),
        ("methods: [wbf]", "settings: {overlap: area}", "35: ensemble.settings.overlap: expected 'mask' or 'box'"),
        (
            "methods: [wbf]",
            "settings: {iou: 0.5}",
            "35: ensemble.settings.iou: expected a known key, but got 'iou'. Known: ",
        ),
        ("top: 5", "top: 0", "35: ensemble.top: expected a number greater than or equal to 1, but got 0"),
        ("methods: [wbf]", "tta: [hflip, tilt]", "35: ensemble.tta: expected plain, or words of hflip"),
        ("methods: [wbf]", "tta: [hflip, hflip]", "35: ensemble.tta: expected each view beside the plain one once"),
        ("methods: [wbf]", "folds: 1", "35: ensemble.folds: expected two folds or more, or 0 for none, but got 1"),
        ("storage: {path: runs, keep_checkpoints: 5}", "storage:", "33: storage: expected `key: value` lines, but"),
        ("images: data/train}", "images: data/trian}", "5: data.train.images: .*got nothing at .*data/trian"),
        ("images: data/train}", "images: data/val.json}", "5: data.train.images: .*a folder of images, but got a file"),
        ("data/val.json", "data/no.json", "6: data.val.annotations: expected a COCO file, but got nothing"),
        ("annotations: data/val.json", "labels: labels", "6: data.val.labels: expected annotations .*but got labels"),
        ("annotations: data/val.json,", "", "6: data.val: expected annotations for val, but got none"),
        ("  val:   {annotations: data/val.json,   images: data/val}\n", "", "4: data: expected train and val, or"),
        ("mode: max", "mode: max\nname: twice", "9: expected each key once, but got 'name' again, first on line 1"),
        (
            "mode: max",
            "mode: max\npreset: nuclie",
            r"9: preset.name: expected the name of .*'nuclie'. Did you mean nuclei\?",
        ),
        (
            "mode: max",
            "mode: max\npreset: {nme: nuclei}",
            r"9: preset.nme: expected a known key, .*Did you mean name\?",
        ),
        ("mode: max", "mode: max\npreset: litter-solo", "9: preset.name: expected a preset for the task instance, but"),
        ("mode: max", "mode: max\npreset: 5", "9: preset: expected `key: value` lines, but got 5"),
        ("mode: max", "mode: [max", "9: expected YAML, but got a syntax error"),
    ],
)
def test_sweep_files_that_are_refused(folder: Path, old: str, new: str, message: str) -> None:
    assert old in SWEEP
    with pytest.raises(InputError, match=f"sweep.yaml:{message}") as caught:
        load_sweep(write(folder, SWEEP.replace(old, new, 1)))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert sorted(entry.name for entry in folder.iterdir()) == ["data", "labels", "set", "sweep.yaml"]


def test_one_name_where_a_list_stands_is_shown_as_a_list_to_write(folder: Path) -> None:
    wrong = SHORT + "preset: {name: particles, drop: image_width}\n"
    with pytest.raises(
        SweepFileError, match=r"preset.drop: expected a list, but got 'image_width'. Write drop: \[\.\.\.\]"
    ):
        load_sweep(write(folder, wrong))


def test_several_problems_name_the_first_and_count_the_others(folder: Path) -> None:
    with pytest.raises(SweepFileError, match=r"sweep.yaml:8: colour: .* \(1 more after this one\)"):
        load_sweep(write(folder, SHORT + "colour: red\nsize: 3\n"))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(SweepFileError, match="no.yaml: expected a sweep file, but got no such file"):
        load_sweep(tmp_path / "no.yaml")
    with pytest.raises(SweepFileError, match="expected a sweep file, but got a folder"):
        load_sweep(tmp_path)
