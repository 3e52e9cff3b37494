"""Several presets as one: what a later one says wins, and what the earlier ones then have no place for is left out.

The earlier presets give way to the next one just as any preset gives way to a sweep file's own entries. Works on a
sweep file's forms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search_spaces.preset import Preset
from search_spaces.preset_merge import Merged, merge_preset

__all__ = ["chain_presets"]


def chain_presets(presets: Sequence[Preset]) -> tuple[Preset, tuple[str, ...]]:
    """Returns the presets as one, and a line for each later one that says what it took the place of.

    Args:
        presets: At least one, all of the same task.
    """
    whole, notes = presets[0], []
    for later in presets[1:]:
        merged = merge_preset(
            whole, space=later.space, fixed=later.fixed, overrides=later.overrides, forbid=later.forbid
        )
        note = _note(whole, later, merged)
        notes += [note] if note else []
        whole = _joined(whole, later, merged)
    return whole, tuple(notes)


def _joined(earlier: Preset, later: Preset, merged: Merged) -> Preset:
    names = {*merged.space, *merged.fixed, *merged.overrides}
    rows = {knob: row for knob, row in earlier.rows.items() if knob in names} | dict(later.rows)
    return replace(
        later,
        name=f"{earlier.name} + {later.name}",
        what=f"{earlier.what}; {later.what}",
        report=f"{earlier.report} + {later.report}",
        space=merged.space,
        fixed=merged.fixed,
        overrides=merged.overrides,
        forbid=merged.forbid,
        rows=rows,
        beyond=(*earlier.beyond, *later.beyond),
    )


def _note(earlier: Preset, later: Preset, merged: Merged) -> str:
    """Returns which knobs both name differently and which of the earlier are left out; "" if there are none."""
    before, after = _entries(earlier), _entries(later)
    won = [name for name in before if name in after and before[name] != after[name]]
    gone = [name for name in before if name not in after and name not in merged.from_preset]
    said = [
        f"wins over {earlier.name} on {', '.join(won)}" if won else "",
        f"leaves no place for its {', '.join(gone)}" if gone else "",
    ]
    return f"preset {later.name} {' and '.join(filter(None, said))}" if won or gone else ""


def _entries(preset: Preset) -> Mapping[str, object]:
    return {**preset.space, **preset.fixed, **preset.overrides}
