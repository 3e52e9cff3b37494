"""Which epochs of a trial keep their weights beside the best one's, as members of ensembles and weight averages.

Pure; imports search_spaces' records.
"""

from search_spaces.trial_config import ScheduleChoice

__all__ = ["epochs_to_keep"]


def epochs_to_keep(schedule: ScheduleChoice, count: int) -> tuple[int, ...]:
    """Returns up to `count` validated epochs, spread evenly over the second half of the plan, the last one among them.

    The first half is left out, since a network is far from its end there; the newest epochs alone would be nearly the
    same network, as the learning rate has fallen by then. They are known beforehand, so that a resumed trial keeps the
    same ones.
    """
    planned, interval = schedule.planned_epochs, schedule.validation_interval or 1
    late = [epoch for epoch in range(1, planned + 1) if 2 * epoch > planned and is_validated(epoch, planned, interval)]
    if len(late) <= count:
        return tuple(late)
    if count < 2:
        return tuple(late[-1:]) if count else ()
    last = len(late) - 1
    return tuple(late[round(place * last / (count - 1))] for place in range(count))


def is_validated(epoch: int, planned: int, interval: int) -> bool:
    """Tells whether a validation follows an epoch: each `interval`, and at the end."""
    return epoch % interval == 0 or epoch == planned
