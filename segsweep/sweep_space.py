"""The search space of a sweep file: its own sections, or those on top of a preset.

Imports the rooms of `search_spaces` and the sweep file's records.
"""

from collections.abc import Callable, Sequence

from search_spaces.preset import PRESETS, Preset, read_preset
from search_spaces.preset_merge import merge_preset
from search_spaces.space import Space, parse_space
from search_spaces.wording import nearest_name
from segdata.errors import SweepFileError
from segsweep.sweep_config import PresetConfig, SweepConfig

__all__ = ["Locate", "read_space"]

Locate = Callable[[Sequence[str | int]], str]


def read_space(config: SweepConfig, locate: Locate) -> tuple[Space, Preset | None]:
    """Returns the space of a sweep, and the preset that it builds on.

    Raises:
        SweepFileError: There is no such preset, it is for the other task, or it has no knob that is dropped.
        SpaceError: The space is not valid.
    """
    if config.preset is None:
        space = parse_space(config.space, config.overrides, config.forbid, config.fixed, task=config.task, where=locate)
        return space, None
    preset = _chosen(config, config.preset, locate)
    merged = merge_preset(
        preset,
        space=config.space,
        fixed=config.fixed,
        overrides=config.overrides,
        forbid=config.forbid,
        drop=config.preset.drop,
    )
    where = merged.locator(preset.name, locate)
    space = parse_space(merged.space, merged.overrides, merged.forbid, merged.fixed, task=config.task, where=where)
    return space, preset


def _chosen(config: SweepConfig, chosen: PresetConfig, locate: Locate) -> Preset:
    key, name = ("preset", "name"), chosen.name
    if name not in PRESETS:
        problem = f"expected the name of a preset, but got {name!r}"
        raise SweepFileError.of(problem, where=locate(key), cure=nearest_name(name, PRESETS))
    preset = read_preset(name)
    if preset.task != config.task:
        fitting = [known for known in PRESETS if read_preset(known).task == config.task]
        problem = f"expected a preset for the task {config.task}, but got {name}, which is {preset.task}"
        raise SweepFileError.of(problem, where=locate(key), cure=f"Choose from {', '.join(fitting)}")
    for index, knob in enumerate(chosen.drop):
        if knob not in preset.knobs():
            problem = f"expected a knob of the preset {name}, but got {knob!r}"
            cure = nearest_name(knob, preset.knobs())
            raise SweepFileError.of(problem, where=locate(("preset", "drop", index)), cure=cure)
    return preset
