"""Reading a sweep file: YAML -> `SweepConfig` -> `Sweep`, with absolute paths and a parsed space.

Everything that can be found wrong without opening an image is refused here, with the file, line and key. Nothing is
started and nothing written.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from search_spaces.define_by_run import read_function, unrolled
from search_spaces.preset import PRESETS, Preset, read_preset
from search_spaces.preset_chain import chain_presets
from search_spaces.sections import SECTIONS, Sections, read_fragment
from search_spaces.space import Space, parse_space
from search_spaces.wording import nearest_name
from search_spaces.yaml_source import read_yaml
from segdata.dataset_folder import open_dataset_folder
from segdata.errors import DatasetError, SweepFileError
from segdata.image_cache import is_url
from segdata.remote_folder import place_of, problem_of, without_password
from segscore.own_metric import OwnMetric
from segsweep.objective_checks import check_objectives
from segsweep.own_metrics import read_own_metrics
from segsweep.population_checks import check_population
from segsweep.resource_checks import check_model_resources
from segsweep.sweep_config import ENSEMBLE_METHODS, DataConfig, PresetConfig, RoleConfig, SweepConfig
from segtrack import resolve_uri

__all__ = ["Role", "Sweep", "SweepConfig", "SweepData", "load_sweep", "read_config", "resolve_sweep"]

Locate = Callable[[Sequence[str | int]], str]  # key -> file, line and key


@dataclass(frozen=True, slots=True)
class Role:
    """Absolute paths of one role: `annotations` for instance, `labels` for semantic, perhaps neither for unlabelled.

    `remote` says of which of these folders the files are to be fetched first, and from which URL.
    """

    images: Path
    annotations: Path | None = None
    labels: Path | None = None
    remote: Mapping[Path, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SweepData:
    """The data of a sweep: either `roles` (train, val, ...), or a `dataset` with a `split` file and the fold to use."""

    roles: Mapping[str, Role]
    dataset: Role | None = None
    split: Path | None = None
    fold: int = 0


@dataclass(frozen=True, slots=True)
class Sweep:
    """A checked sweep, ready to run.

    Attributes:
        config: What was written.
        source: The sweep file, None if the config was built in Python.
        folder: What relative paths were taken from.
        project: Name of the MLflow experiment.
        data: Where images and labels lie.
        space: What may be tried.
        storage: Folder that holds the sweeps' own folders.
        tracking_uri: MLflow's, with an absolute path if it names a file.
        preset: What the space builds on; several presets as one.
        weights: Folder of published weights, the same on each node; None = torch's cache.
        whole: The config with its whole space written in, so that it needs no included file and no function.
        notes: What won over what where presets and included files disagree, a line each.
        own_metrics: The metrics of the user's own.
    """

    config: SweepConfig
    source: Path | None
    folder: Path
    project: str
    data: SweepData
    space: Space
    storage: Path
    tracking_uri: str
    preset: Preset | None = None
    weights: Path | None = None
    whole: SweepConfig | None = None
    notes: tuple[str, ...] = ()
    own_metrics: tuple[OwnMetric, ...] = ()

    @property
    def path(self) -> Path:
        """The sweep's own folder: storage / name."""
        return self.storage / self.config.name

    def text(self) -> str:
        """Returns the sweep file as it is kept: as it was written, unless its space lies in other files as well."""
        if self.source is not None and not self.config.include and self.config.space_function is None:
            return self.source.read_text(encoding="utf-8")
        whole = self.whole or self.config
        return whole.model_dump_json(exclude_unset=True, exclude={"include"}, indent=2) + "\n"  # JSON is YAML


def load_sweep(path: Path | str, *, folder: Path | None = None, metric_texts: Mapping[str, str] | None = None) -> Sweep:
    """Reads and checks a sweep file.

    Args:
        path: The file.
        folder: What its relative paths are taken from; None = the file's own folder.
        metric_texts: Of a sweep that has begun: what the files of its own metrics held then, by metric.

    Raises:
        SweepFileError: With file, line, key, what was found and the cure.
        SpaceError: The same, for the search space.
    """
    source = Path(path).absolute()
    config, locate = read_config(Path(path))
    return resolve_sweep(config, folder or source.parent, source=source, locate=locate, metric_texts=metric_texts)


def read_config(path: Path) -> tuple[SweepConfig, Locate]:
    """Reads what a sweep file says, and how to name its keys in messages; looks at no other file.

    Raises:
        SweepFileError: With file, line, key, what was found and the cure.
    """
    yaml_source = read_yaml(path)
    try:
        return SweepConfig.model_validate(yaml_source.values), yaml_source.locate
    except ValidationError as error:
        raise _as_sweep_error(error, yaml_source.locate) from error


def resolve_sweep(
    config: SweepConfig,
    folder: Path,
    *,
    source: Path | None = None,
    locate: Locate | None = None,
    metric_texts: Mapping[str, str] | None = None,
) -> Sweep:
    """Checks a config that was built in Python, or read, against the files that it names.

    Args:
        config: What is to run.
        folder: What relative paths are taken from.
        source: The file that it was read from.
        locate: Names a key in messages; without it the key alone does.
        metric_texts: As in `load_sweep`.

    Raises:
        SweepFileError: If files are missing, or a value does not fit the task.
        SpaceError: If the space is not valid.
    """
    folder = folder.absolute()
    locate = locate or (lambda key: "sweep: " + ".".join(str(part) for part in key))
    _check_task(config, locate)
    own, notes = _with_fragments(config, folder, locate)
    preset, told = _preset(config, config.preset, locate) if config.preset else (None, ())
    drop = config.preset.drop if config.preset else ()
    data = _resolve_data(config, folder, locate)
    by_dataset = Path(config.data.dataset).name if config.data.dataset else ""
    space = _space(config, own if preset is None else own.on_preset(preset, drop))
    check_population(config, space, locate)
    check_model_resources(config.resources, space, locate)
    return Sweep(
        config=config,
        source=source,
        folder=folder,
        project=config.project or by_dataset or config.name,
        data=data,
        space=space,
        preset=preset,
        whole=_whole(config, own),
        notes=(*told, *notes),
        own_metrics=read_own_metrics(config.own_metrics, config.task, folder, locate(("metric",)), metric_texts),
        storage=_absolute(config.storage.path, folder),
        tracking_uri=resolve_uri(config.tracking.uri, folder, where=locate(("tracking", "uri"))),
        weights=None if config.weights.folder is None else _absolute(config.weights.folder, folder),
    )


def _with_fragments(config: SweepConfig, folder: Path, locate: Locate) -> tuple[Sections, tuple[str, ...]]:
    """Returns the own sections on top of those of the included files, and which of these won over which."""
    below: Sections | None = None
    notes = []
    for index, name in enumerate(config.include):
        path = _existing(name, folder, ("include", index), "a YAML file to include", locate, is_file=True)
        fragment = read_fragment(path)
        won = [knob for knob in fragment.names() if below is not None and knob in below.names()]
        notes += [f"{name} wins over what is included before it on {', '.join(won)}"] if won else []
        below = fragment if below is None else fragment.over(below)
    own = Sections(locate=locate, forbid=config.forbid, **{name: getattr(config, name) for name in SECTIONS})
    if config.space_function is not None:
        own = own.over(_function(config.space_function, folder, locate))
    return (own if below is None else own.over(below)), tuple(notes)


def _function(text: str, folder: Path, locate: Locate) -> Sections:
    """Returns what a space function of the user's own says, in a sweep file's form."""
    file, _, name = text.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        problem = f"expected `key: value` lines or FILE.py:FUNCTION, but got {text!r}"
        raise SweepFileError.of(problem, where=locate(("space",)), cure="Write space: my_space.py:space")
    path, where = _existing(file, folder, ("space",), "a Python file", locate, is_file=True), locate(("space",))
    return unrolled(read_function(path, name, where), path, where)


def _preset(config: SweepConfig, chosen: PresetConfig, locate: Locate) -> tuple[Preset, tuple[str, ...]]:
    """Returns the presets as one, and which of them won over which."""
    presets = []
    for index, name in enumerate(chosen.names):
        key = ("preset", "name", index) if chosen.then else ("preset", "name")
        if name not in PRESETS:
            problem = f"expected the name of a preset, but got {name!r}"
            raise SweepFileError.of(problem, where=locate(key), cure=nearest_name(name, PRESETS))
        preset = read_preset(name)
        if preset.task != config.task:
            fitting = [known for known in PRESETS if read_preset(known).task == config.task]
            problem = f"expected a preset for the task {config.task}, but got {name}, which is {preset.task}"
            raise SweepFileError.of(problem, where=locate(key), cure=f"Choose from {', '.join(fitting)}")
        presets.append(preset)
    whole, notes = chain_presets(presets)
    for index, knob in enumerate(chosen.drop):
        if knob not in whole.knobs():
            problem = f"expected a knob of the preset {whole.name}, but got {knob!r}"
            cure = nearest_name(knob, whole.knobs())
            raise SweepFileError.of(problem, where=locate(("preset", "drop", index)), cure=cure)
    return whole, notes


def _space(config: SweepConfig, sections: Sections) -> Space:
    return parse_space(
        sections.space,
        sections.overrides,
        sections.forbid,
        sections.fixed,
        task=config.task,
        where=sections.locate,
        variables=sections.variables,
    )


def _whole(config: SweepConfig, own: Sections) -> SweepConfig:
    sections = {name: dict(getattr(own, name)) for name in SECTIONS} | {"forbid": tuple(own.forbid)}
    said: dict[str, object] = {name: section for name, section in sections.items() if section}
    return config.model_copy(update=said | ({"space_function": None} if config.space_function else {}))


def _check_task(config: SweepConfig, locate: Locate) -> None:
    check_objectives(config, locate)
    if config.metric not in (*config.metrics(), *config.own_metrics):
        problem = f"expected a metric of the task {config.task}, but got {config.metric!r}"
        raise SweepFileError.of(problem, where=locate(("metric",)), cure=nearest_name(config.metric, config.metrics()))
    if config.mode != "max" and config.metric not in config.own_metrics:
        problem = f"expected max, because more {config.metric} is better, but got {config.mode}"
        raise SweepFileError.of(problem, where=locate(("mode",)), cure="Write mode: max")
    for index, method in enumerate(config.ensemble.methods):
        known = ENSEMBLE_METHODS[config.task]
        if method not in known:
            problem = f"expected an ensemble method of the task {config.task} in this version, but got {method!r}"
            raise SweepFileError.of(
                problem, where=locate(("ensemble", "methods", index)), cure=nearest_name(method, known)
            )


def _resolve_data(config: SweepConfig, folder: Path, locate: Locate) -> SweepData:
    data = config.data
    if data.dataset is not None and data.split is not None:
        return _resolve_split(data, data.dataset, data.split, config.task, folder, locate)
    roles = {name: _resolve_role(role, config.task, name, folder, locate) for name, role in data.roles().items()}
    return SweepData(roles)


def _resolve_split(data: DataConfig, dataset: str, split: str, task: str, folder: Path, locate: Locate) -> SweepData:
    key = ("data", "dataset")
    try:
        found = open_dataset_folder(_absolute(dataset, folder))
    except DatasetError as error:
        raise SweepFileError(f"{locate(key)}: {error}") from error
    images = _existing(str(found.images), folder, key, "a folder of images", locate)
    labels = found.annotations if task == "instance" else found.labels
    if labels is None:
        wanted = "annotations.json" if task == "instance" else "labels/"
        cure = "Import them by `segsweep data`, or change `task`"
        raise SweepFileError.of(f"expected {wanted} in {dataset}, but got none", where=locate(key), cure=cure)
    role = Role(images, found.annotations, None) if task == "instance" else Role(images, None, found.labels)
    split_path = _existing(split, folder, ("data", "split"), "a split file", locate, is_file=True)
    return SweepData({}, role, split_path, data.fold)


def _resolve_role(role: RoleConfig, task: str, name: str, folder: Path, locate: Locate) -> Role:
    wanted, unwanted = ("annotations", "labels") if task == "instance" else ("labels", "annotations")
    key = ("data", name)
    if getattr(role, unwanted) is not None:
        problem = f"expected {wanted} for the task {task}, but got {unwanted}"
        raise SweepFileError.of(problem, where=locate((*key, unwanted)), cure=f"Write {wanted}, or change `task`")
    remote: dict[Path, str] = {}
    images = _folder(role.images, folder, (*key, "images"), "a folder of images", locate, remote)
    labels = getattr(role, wanted)
    if labels is None and name != "unlabelled":
        cure = f"Add {wanted}: PATH beside images"
        raise SweepFileError.of(f"expected {wanted} for {name}, but got none", where=locate(key), cure=cure)
    if labels is None:
        if remote:
            problem, cure = f"expected a folder for unlabelled, but got {role.images}", "Copy the images to a folder"
            raise SweepFileError.of(problem, where=locate((*key, "images")), cure=cure)
        return Role(images)
    if task == "instance":
        path = _existing(labels, folder, (*key, wanted), "a COCO file", locate, is_file=True)
        return Role(images, annotations=path, remote=remote)
    maps = _folder(labels, folder, (*key, wanted), "a folder of label maps", locate, remote)
    return Role(images, labels=maps, remote=remote)


def _folder(
    text: str, folder: Path, key: Sequence[str | int], what: str, locate: Locate, remote: dict[Path, str]
) -> Path:
    """Returns a folder that exists, or the place on this machine for what a URL names, which `remote` then tells."""
    if not is_url(text):
        return _existing(text, folder, key, what, locate)
    if (wanted := problem_of(text)) is not None:
        shown = without_password(text)
        raise SweepFileError.of(f"expected {wanted}, but got {shown!r}", where=locate(key), cure="Correct the URL")
    place = place_of(text)
    remote[place] = text.rstrip("/")
    return place


def _existing(
    text: str, folder: Path, key: Sequence[str | int], what: str, locate: Locate, *, is_file: bool = False
) -> Path:
    path = _absolute(text, folder)
    if path.is_file() if is_file else path.is_dir():
        return path
    found = "nothing" if not path.exists() else "a folder" if path.is_dir() else "a file"
    raise SweepFileError.of(
        f"expected {what}, but got {found} at {path}",
        where=locate(key),
        cure=f"Check the path; a relative one starts at {folder}",
    )


def _absolute(text: str, folder: Path) -> Path:
    # Links are kept: another node may mount their target elsewhere.
    return Path(os.path.abspath(folder / Path(text).expanduser()))


def _as_sweep_error(error: ValidationError, locate: Locate) -> SweepFileError:
    """Returns the first problem as one message, and how many more there are.

    Unknown keys come first: where `trials` is missing, it is because someone wrote `trails`.
    """
    problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    key = tuple(first["loc"])
    problem, cure = _describe(first["type"], first["msg"], first.get("input"), key, first.get("ctx", {}))
    more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
    return SweepFileError(f"{locate(key)}: {problem}. {cure}{more}")


def _describe(
    kind: str, text: str, found: object, key: Sequence[str | int], context: Mapping[str, Any]
) -> tuple[str, str]:
    """Returns (problem, cure) of one of pydantic's errors."""
    name = str(key[-1]) if key else ""
    if kind == "extra_forbidden":
        known = _known_keys(key[:-1])
        return f"expected a known key, but got {name!r}", nearest_name(name, known)
    if kind in ("model_type", "dict_type"):
        return f"expected `key: value` lines, but got {found!r}", f"Indent the keys of {name} below it, or drop it"
    if kind in ("tuple_type", "list_type"):
        return f"expected a list, but got {found!r}", f"Write {name}: [...]"
    if kind == "missing":
        return f"expected {name}, but got none", f"Add {name}: ..."
    if kind == "value_error":
        problem, _, cure = text.removeprefix("Value error, ").rpartition(". ")
        return problem, cure
    wanted = text.removeprefix("Input should be ")
    wanted = f"a number {wanted}" if wanted.startswith(("greater", "less")) else wanted
    expected = str(context.get("expected", ""))
    options = [option.strip(" '") for option in expected.replace(" or ", ",").split(",") if option.strip(" '")]
    cure = nearest_name(str(found), options) if options else "Correct it"
    return f"expected {wanted}, but got {found!r}", cure


def _known_keys(key: Sequence[str | int]) -> tuple[str, ...]:
    model: type[BaseModel] = SweepConfig
    for part in key:
        if str(part) not in model.model_fields:  # a name of the user's own, such as a model's in resources.models
            continue
        annotation = model.model_fields[str(part)].annotation
        options = (annotation, *get_args(annotation))
        model = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return tuple(model.model_fields)
