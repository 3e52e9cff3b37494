"""When a sweep is over, and how it goes on with a larger budget. The sweep file stays as it was started: the study
holds what was added."""

from dataclasses import dataclass, fields, replace

from pydantic import ValidationError

from segdata.errors import InputError
from segsweep.search.budget import Budget, Spent, Standing
from segsweep.search.proposals import Proposals
from segsweep.search.study import Study, trial_records
from segsweep.search_config import BudgetConfig
from segsweep.sweep_file import Sweep

__all__ = ["Extension", "budget_of", "extended", "over", "record_end", "record_extension"]

BUDGET, END = "budget", "end"  # user attributes of the study


@dataclass(frozen=True, slots=True)
class Extension:
    """What a resume changes in the budget, as the user wrote it: `80`, or `+40` on top of what there was."""

    trials: str | None = None
    hours: str | None = None
    patience: str | None = None
    device_hours: str | None = None

    def applied(self, budget: BudgetConfig) -> BudgetConfig:
        """Returns the budget with it.

        Raises:
            InputError: It is no number, or adds to what the sweep does not have.
        """
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        found = {name: new_value(name, text, getattr(budget, name)) for name, text in given.items() if text is not None}
        try:
            return BudgetConfig.model_validate(budget.model_dump() | found)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise InputError.of(
                f"expected {first['msg'].removeprefix('Input should be ')}, but got {given[name]}",
                where=option(name),
                cure="Give a larger number.",
            ) from error


def option(name: str) -> str:
    """Returns the command line's option for a key of the budget."""
    return "--" + name.replace("_", "-")


def new_value(name: str, text: str, now: float | None) -> float:
    """Reads `80` or `+40`."""
    kind = int if name in ("trials", "patience") else float
    try:
        value = kind(text.removeprefix("+"))
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise InputError.of(
            f"expected {wanted}, or + and {wanted}, but got {text!r}", where=option(name), cure="Write 80 or +40."
        ) from error
    if not text.startswith("+"):
        return value
    if now is None:
        raise InputError.of(
            f"expected a number without +, as the sweep has no budget.{name}, but got {text!r}",
            where=option(name),
            cure=f"Write {option(name)} {value:g}.",
        )
    return now + value


def extended(sweep: Sweep, study: Study, extension: Extension | None = None) -> Sweep:
    """Returns the sweep with the budget that earlier resumes gave it, and `extension` on top."""
    budget = BudgetConfig.model_validate(sweep.config.budget.model_dump() | study.user_attrs.get(BUDGET, {}))
    budget = budget if extension is None else extension.applied(budget)
    return replace(sweep, config=sweep.config.model_copy(update={"budget": budget}))


def record_extension(study: Study, written: BudgetConfig, budget: BudgetConfig) -> None:
    """Writes into the study what differs from the sweep file, unless it is there."""
    before, now = written.model_dump(), budget.model_dump()
    changed = {name: value for name, value in now.items() if value != before[name]}
    if changed != study.user_attrs.get(BUDGET, {}):
        study.set_user_attr(BUDGET, changed)


def budget_of(sweep: Sweep) -> Budget:
    """Returns what all launches together may spend."""
    budget = sweep.config.budget
    return Budget(budget.trials, budget.patience, budget.device_hours)


def over(sweep: Sweep, study: Study) -> Spent | None:
    """Returns why no trial is left to run, None if there is one."""
    records, budget = trial_records(study), budget_of(sweep)
    if not all(record.ended for record in records):
        return None
    if len(records) >= budget.trials:
        return Spent("finished", f"all {len(records)} trials have ended")
    if sweep.config.search.sampler.grid is not None and not Proposals(study, sweep.space, grid=True).left:
        return Spent("finished", f"all {len(records)} combinations of the grid have been tried")
    return Standing(sweep.config.mode, 1.0, records, sweep.config.objectives[1:]).spent(budget)


def record_end(study: Study, spent: Spent) -> None:
    """Writes into the study why a launch ended."""
    study.set_user_attr(END, {"kind": spent.end, "reason": spent.reason})
