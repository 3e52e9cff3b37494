"""The one error tree of Segsweep; every package raises from it, the command line maps it to exit codes.

SegsweepError            exit code 1: the work failed
├── TrialError           a trial could not train or predict
│   ├── TrialMemoryError     it needed more memory than there is
│   └── TrialSiteError       not the trial is at fault, but where it ran: a full disk, a vanished image
└── InputError           exit code 2: what the user gave was wrong
    ├── DatasetError     images, annotations, prediction sets
    ├── SpaceError       knobs, ranges, conditions
    └── SweepFileError   the sweep file itself

This room imports nothing of ours.
"""

from typing import ClassVar, Self

__all__ = [
    "DatasetError",
    "InputError",
    "SegsweepError",
    "SpaceError",
    "SweepFileError",
    "TrialError",
    "TrialMemoryError",
    "TrialSiteError",
]


class SegsweepError(Exception):
    """Base of all errors that Segsweep raises on purpose."""

    exit_code: ClassVar[int] = 1

    @classmethod
    def of(cls, problem: str, *, where: object, cure: str) -> Self:
        """Composes the one-line message.

        Args:
            problem: What was expected and what was found ("expected X, but got Y").
            where: The file, line or key.
            cure: What the user can do next.
        """
        return cls(f"{where}: {problem}. {cure}")


class TrialError(SegsweepError):
    """A trial could not train or predict."""


class TrialMemoryError(TrialError):
    """A trial needed more memory, of host or device, than there is."""


class TrialSiteError(TrialError):
    """Where a trial ran is at fault, not what it tried: another trial would fail there as well."""


class InputError(SegsweepError):
    """What the user gave was wrong; nothing was started."""

    exit_code: ClassVar[int] = 2


class DatasetError(InputError):
    """Images, annotations or a prediction set are not what they should be."""


class SpaceError(InputError):
    """A search space is not valid."""


class SweepFileError(InputError):
    """A sweep file is not valid."""
