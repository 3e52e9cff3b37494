"""Refusals of knobs and values that a chosen model can't take, and of ranges that contradict each other."""

from collections.abc import Mapping, Sequence

from search_spaces.conditions import Parameter, is_active
from search_spaces.draft import Draft
from search_spaces.knob import Knob
from search_spaces.knobs import KNOBS, takes, takes_value
from search_spaces.models import MODELS
from search_spaces.paths import without_selectors
from search_spaces.semantic_models import DILATED
from search_spaces.syntax import Key, refuse
from search_spaces.trial_config import Scalar
from search_spaces.wording import some
from segdata.errors import SpaceError

__all__ = ["check_models", "check_ordered", "check_overrides"]


_DILATE = (*DILATED, "smp-pan", "smp-deeplabv3", "smp-deeplabv3plus")


def check_models(draft: Draft) -> None:
    """Refuses every knob and value that some model of the space, under its conditions, can't take."""
    _check_model_is_named(draft)
    for parameter in draft.parameters:
        if parameter.knob in KNOBS:
            _check_parameter(draft, KNOBS[parameter.knob], parameter)
            _check_company(draft, KNOBS[parameter.knob], draft.keys[parameter.id], parameter)
    for name, value in draft.fixed.items():
        if name in KNOBS:
            _check_fixed(draft, KNOBS[name], value)
            _check_company(draft, KNOBS[name], ("fixed", name))


def _check_company(draft: Draft, knob: Knob, key: Key, parameter: Parameter | None = None) -> None:
    """Refuses a knob that can be set in a trial without any of those that give it an effect."""
    if not knob.beside or any(draft.fixed.get(name) for name in knob.beside):
        return
    company = [item for item in draft.parameters if item.knob in knob.beside]
    if any(not item.when for item in company):
        return
    own = [parameter] if parameter is not None else []
    for world in draft.worlds(*(parent for item in (*own, *company) for parent, _ in item.when)):
        if all(is_active(item, world) for item in own) and not any(is_active(item, world) for item in company):
            wanted = f"{' or '.join(knob.beside[:3])}{' or another step' if knob.beside[3:] else ''}"
            problem = f"expected {wanted} beside {knob.name}, but got {'trials without' if company else 'none'}"
            cure = f"Give both the same `when`, or drop {knob.name}" if company else f"Add {knob.beside[0]}"
            raise refuse(draft.locate, key, problem, cure)


def _check_model_is_named(draft: Draft) -> None:
    fitting = [model.name for model in MODELS.values() if model.task == draft.task]
    if "model" not in draft.names():
        raise refuse(
            draft.locate,
            ("space",),
            "expected a model, but got none",
            f"Add model: {{choice: [{', '.join(fitting[:3])}]}}, or fix one; `segsweep spaces models` lists all",
        )
    for world in draft.worlds("model"):
        if "model" not in world:
            cases = [parameter for parameter in draft.parameters if parameter.knob == "model"]
            raise draft.refuse(
                cases[0], "expected a model in every trial, but got a `when` that leaves it out", "Drop it"
            )
        name = str(world["model"])
        if name in MODELS and MODELS[name].task != draft.task:
            key: Key = ("fixed", "model") if "model" in draft.fixed else ("space", "model")
            problem = f"expected a model for the task {draft.task}, but got {name}, which is {MODELS[name].task}"
            raise refuse(
                draft.locate, key, problem, f"Choose from {some(fitting)}; `segsweep spaces models` lists them"
            )


def _check_parameter(draft: Draft, knob: Knob, parameter: Parameter) -> None:
    parents = [parent for parent, _ in parameter.when]
    own = [knob.name] if knob.values_by_model else []
    fitting: dict[str, None] = {}
    refused: tuple[str, str] | None = None
    for world in draft.worlds("model", *parents, *knob.needs, *knob.unfit, *own):
        if not is_active(parameter, world):
            continue
        model = str(world["model"])
        problem = _misfit(knob, model, world, world[knob.name] if own else None)
        if problem is None:
            fitting[model] = None
        elif refused is None:
            refused = model, problem
    if refused is not None:
        model, problem = refused
        cure = _cure(knob, model, list(fitting))
        raise draft.refuse(parameter, f"expected what every chosen model can take, {problem}", cure)


def _misfit(knob: Knob, model: str, world: Mapping[str, Scalar], value: Scalar | None) -> str | None:
    """Returns why `knob` (with `value`, if given) can't be set in this world, or None."""
    if not takes(model, knob):
        return f"but got {knob.name}, which {model} can't take"
    if value is not None and not takes_value(model, knob, value):
        why = " (it needs an encoder that can dilate)" if knob.name == "backbone" and model in _DILATE else ""
        return f"but got {knob.name} {value}, which {model} can't take{why}"
    for other, allowed in knob.needs.items():
        found = world.get(other, KNOBS[other].default)
        if found not in allowed:
            wanted = " or ".join(str(option) for option in allowed)
            return (
                f"but got {knob.name} with {other} {'left to the model' if found is None else found} (needs {wanted})"
            )
    for other, unfit in knob.unfit.items():
        if world.get(other) in unfit:
            return f"but got {knob.name} with {other} {world[other]}, which can't take it"
    return None


def _cure(knob: Knob, model: str, fitting: Sequence[str]) -> str:
    if takes(model, knob) and knob.needs:
        needs = ", ".join(f"{other}: {allowed[0]}" for other, allowed in knob.needs.items())
        return f"Add when: {{{needs}}}, or fix {needs}"
    if takes(model, knob) and model in knob.values_by_model:
        able = some(knob.values_by_model[model])
        listing = f"segsweep spaces models {model}"
        return f"Split {knob.name} into cases by when: {{model: ...}}; {model} takes {able}: `{listing}`"
    if takes(model, knob) and knob.unfit:
        return f"Give {knob.name} a when: {{{', '.join(knob.unfit)}: ...}} that leaves those out, or drop it"
    able_models = [name for name in fitting if takes(name, knob)]
    if able_models:
        return f"Add when: {{model: [{', '.join(able_models)}]}}"
    return f"Drop {knob.name}; it serves {some(name for name in MODELS if takes(name, knob))}"


def _check_fixed(draft: Draft, knob: Knob, value: Scalar) -> None:
    for world in draft.worlds("model", *knob.needs, *knob.unfit):
        model = str(world["model"])
        problem = _misfit(knob, model, world, value)
        if problem:
            problem = f"expected what every chosen model can take, {problem}"
            raise refuse(draft.locate, ("fixed", knob.name), problem, _cure_fixed(draft, knob, model, value))


def _cure_fixed(draft: Draft, knob: Knob, model: str, value: Scalar) -> str:
    chosen = dict.fromkeys(str(world["model"]) for world in draft.worlds("model"))
    able = [name for name in chosen if takes(name, knob) and takes_value(name, knob, value)]
    if able and len(able) < len(chosen):
        return f"Move it to the space as {knob.name}: {{choice: [{value}], when: {{model: [{', '.join(able)}]}}}}"
    if takes(model, knob) and model in knob.values_by_model and not takes_value(model, knob, value):
        fitting = [str(other) for other in knob.values_by_model[model]]
        return f"{model} takes {some(fitting) or 'none but its own'}: `segsweep spaces models {model}`"
    return _cure(knob, model, [])


def check_ordered(draft: Draft) -> None:
    """Refuses ranges by which a knob would always exceed the one that it must not exceed."""
    for knob in KNOBS.values():
        if knob.at_most is None or not {knob.name, knob.at_most} & set(draft.names()):
            continue
        parents = [
            parent for item in draft.parameters if item.knob in (knob.name, knob.at_most) for parent, _ in item.when
        ]
        for world in draft.worlds(*parents):
            low, high = _bounds(draft, knob.name, world)[0], _bounds(draft, knob.at_most, world)[1]
            if low is not None and high is not None and low > high:
                raise _never_ordered(draft, knob, knob.at_most, low, high)


def _never_ordered(draft: Draft, knob: Knob, at_most: str, low: float, high: float) -> SpaceError:
    searched = [parameter for parameter in draft.parameters if parameter.knob in (knob.name, at_most)]
    key: Key = draft.keys[searched[0].id] if searched else ("fixed", knob.name if knob.name in draft.fixed else at_most)
    problem = f"expected {knob.name} <= {at_most}, but got at least {low} against at most {high}"
    return refuse(draft.locate, key, problem, "Lower the first or raise the second")


def _bounds(draft: Draft, name: str, world: Mapping[str, Scalar]) -> tuple[float | None, float | None]:
    """Returns the smallest and largest value of a knob in a world: its range, its one value, or its stock value."""
    for parameter in draft.parameters:
        if parameter.knob == name and is_active(parameter, world):
            edges = [float(edge) for edge in parameter.domain.edges()]
            return min(edges), max(edges)
    value = draft.fixed.get(name, KNOBS[name].default_for({**draft.fixed, **world}))
    return (None, None) if value is None else (float(value), float(value))


def check_overrides(draft: Draft, paths: Sequence[str]) -> None:
    """Refuses an override of a path that a knob of the space writes too.

    Args:
        draft: The space.
        paths: Every override, fixed or searched, as written.
    """
    written = [knob for knob in KNOBS.values() if knob.name in {*draft.names(), "epochs"}]
    for path in paths:
        for knob in written:
            if without_selectors(path) in _bare_paths(knob):
                problem = f"expected a path that no knob of this space writes, but got {path}, which {knob.name} writes"
                cure = f"Keep one of the two: {knob.name} or the override"
                raise refuse(draft.locate, ("overrides", path), problem, cure)


def _bare_paths(knob: Knob) -> set[str]:
    return {without_selectors(path) for paths in knob.paths.values() for path in paths}
