"""What population-based training changes in a trial while it trains, as the study keeps it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search_spaces.knobs import KNOBS
from search_spaces.trial_config import Scalar, TrialConfig

__all__ = ["Mutation", "config_in_force", "mutations_from"]


@dataclass(frozen=True, slots=True)
class Mutation:
    """The values of a trial from an epoch on, by knob; `donor` is the trial whose state it went on from there.

    The first one, at epoch 0 and without a donor, holds the values that the trial started with.
    """

    epoch: int
    donor: int | None
    values: Mapping[str, Scalar]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON-ready values."""
        return asdict(self)

    def text(self) -> str:
        """Returns it in a few words."""
        values = " ".join(f"{name}={value:.4g}" for name, value in self.values.items())
        return f"epoch {self.epoch}{'' if self.donor is None else f' from {self.donor:04d}'}: {values}"


def mutations_from(written: Iterable[Mapping[str, Any]]) -> tuple[Mutation, ...]:
    """Reads what `Mutation.to_dict` wrote."""
    return tuple(Mutation(**values) for values in written)


def config_in_force(config: Mapping[str, Any], mutations: Sequence[Mutation]) -> Mapping[str, Any]:
    """Returns a trial's config, as a dict, with the values of its last mutation."""
    if len(mutations) < 2:
        return config
    trial = TrialConfig.from_dict(config)
    for name, value in mutations[-1].values.items():
        trial = trial.with_value(KNOBS[name].field, value)
    return trial.to_dict()
