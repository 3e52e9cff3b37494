"""Points to begin with from what the zoos have published: the models and encoders of a space, the best scored first.

Imports trainables' reader of metafiles.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from search_spaces.parameters import Choice
from search_spaces.space import Parameter, Space
from search_spaces.trial_config import Scalar
from segdata.errors import InputError, SpaceError
from segsweep.preflight import options_of
from segsweep.probes import GPU, ProbeError, probe
from segsweep.search.proposals import params_of
from segsweep.wishes import Wish
from trainables.description import Task
from trainables.published_scores import MEASURES, PublishedScore, published_score

__all__ = ["Chosen", "Prior", "choose_priors", "gpu_memory_gb", "require_published"]

Network = tuple[Scalar | None, Scalar | None]  # model and encoder, None where a point leaves it open

GB = 2**30


@dataclass(frozen=True, slots=True)
class Prior:
    """A model on an encoder of the space: the point with stock values, and what was published of it."""

    model: str
    backbone: str | None
    sample: Mapping[str, Scalar]
    published: PublishedScore

    @property
    def name(self) -> str:
        """Model and encoder."""
        return f"{self.model} {self.backbone}" if self.backbone else self.model


@dataclass(frozen=True, slots=True)
class Chosen:
    """The points to try, and those in whose place others came, since they need more memory than there is."""

    priors: tuple[Prior, ...]
    too_large: tuple[Prior, ...]

    def lines(self, task: Task, wanted: int, memory_gb: float | None) -> Iterator[str]:
        """Yields what and why, a line each."""
        for prior in self.priors:
            memory = prior.published.memory_gb
            with_memory = "" if memory is None else f" with {memory:.1f} GB"
            yield f"prior: {prior.name} (published {MEASURES[task]} {prior.published.percent:.1f}{with_memory})"
        for prior in self.too_large:
            score = f"published {MEASURES[task]} {prior.published.percent:.1f}"
            needed = f"it was trained with {prior.published.memory_gb:.1f} GB"
            yield f"prior left out: {prior.name} ({score}), since {needed} and a trial gets {memory_gb:.1f} GB of a GPU"
        if len(self.priors) < wanted:
            yield f"priors: {len(self.priors)} of {wanted}; nothing else is published of what this space can try"

    def wishes(self, space: Space) -> tuple[Wish, ...]:
        """Returns the points as a sweep's folder keeps them."""
        rows = enumerate(self.priors, start=1)
        return tuple(Wish(f"prior-{number:04d}", params_of(space, prior.sample)) for number, prior in rows)


def require_published(space: Space, wanted: int, where: object) -> None:
    """Refuses priors where nothing is published for any model of the space; the file asks for what can't be had.

    Raises:
        InputError: There are none.
    """
    if wanted and not any(True for _ in published_priors(space, {})):
        models = ", ".join(options_of(space, "model"))
        raise InputError.of(
            f"expected models that the zoo has published the {MEASURES[space.task]} of, but got {models}",
            where=f"{where}: search.priors",
            cure="Leave the key out.",
        )


def choose_priors(
    space: Space, fitted: Mapping[str, Scalar], earlier: Sequence[Wish], wanted: int, memory_gb: float | None = None
) -> Chosen:
    """Chooses the points: first the best encoder of each model, by score, then other encoders, by score.

    Args:
        space: What is searched.
        fitted: Values that stand in for stock ones, as in the baseline.
        earlier: Points that are tried before; their networks and the baseline's are left out.
        wanted: How many points.
        memory_gb: What a trial gets on each of its GPUs; None = no limit.
    """
    tried = {network_of(space, space.baseline(fitted)), *(network_of(space, by_knob(space, wish)) for wish in earlier)}
    known = [prior for prior in published_priors(space, fitted) if network_of(space, prior.sample) not in tried]
    fitting = [prior for prior in known if memory_gb is None or (prior.published.memory_gb or 0.0) <= memory_gb]
    too_large = [prior for prior in in_order(known)[:wanted] if prior not in fitting]
    return Chosen(tuple(in_order(fitting)[:wanted]), tuple(too_large))


def in_order(priors: Sequence[Prior]) -> list[Prior]:
    """Returns them by score, those first that are the best of their model."""
    ranked = sorted(priors, key=lambda prior: -prior.published.percent)
    best = {prior.model: prior for prior in reversed(ranked)}
    return sorted(ranked, key=lambda prior: best[prior.model] is not prior)


def published_priors(space: Space, fitted: Mapping[str, Scalar]) -> Iterator[Prior]:
    """Yields each model and encoder that the space allows and that has a published score."""
    models, backbones = (dict.fromkeys(options_of(space, knob)) for knob in ("model", "backbone"))
    for model, backbone in product(models, (*backbones, None)):
        published = published_score(model, backbone, space.task)
        sample = None if published is None else stock_sample(space, model, backbone, fitted)
        if published is not None and sample is not None:
            yield Prior(model, backbone, sample, published)


def stock_sample(
    space: Space, model: str, backbone: str | None, fitted: Mapping[str, Scalar]
) -> dict[str, Scalar] | None:
    """Returns the baseline of the space with only this model and encoder; None if there is no such trial."""
    wanted = {"model": model} | ({} if backbone is None else {"backbone": backbone})
    narrowed = replace(space, parameters=tuple(only(parameter, wanted) for parameter in space.parameters))
    try:
        sample = narrowed.baseline(fitted)
    except SpaceError:  # forbidden with whatever else
        return None
    return sample if network_of(space, sample) == (model, backbone) else None


def only(parameter: Parameter, wanted: Mapping[str, Scalar]) -> Parameter:
    """Returns a parameter whose choices are narrowed to the wanted one, if it is among them."""
    value = wanted.get(parameter.knob)
    if value is None or not isinstance(parameter.domain, Choice) or not parameter.domain.contains(value):
        return parameter
    return replace(parameter, domain=Choice((value,)))


def network_of(space: Space, values: Mapping[str, Scalar]) -> Network:
    """Returns the model and the encoder of a point."""
    known = {**space.fixed, **values}
    return known.get("model"), known.get("backbone")


def by_knob(space: Space, wish: Wish) -> dict[str, Scalar]:
    """Returns a point by knobs."""
    return {p.knob: wish.parameters[p.id] for p in space.parameters if p.id in wish.parameters}


def gpu_memory_gb(gpu: float, *, here: bool) -> float | None:
    """Returns the memory that a trial gets on each of its GPUs, the smallest of this machine; None if it is not known.

    Args:
        gpu: GPUs of a trial, or the share of one.
        here: Whether trials run on this machine alone.
    """
    if not gpu or not here:
        return None
    try:
        found = probe(GPU)["gpus"]
    except ProbeError:
        return None
    return min((entry["memory"] for entry in found), default=0) * min(1.0, gpu) / GB or None
