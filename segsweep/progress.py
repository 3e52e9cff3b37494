"""The live table of a running sweep: one row a running trial, one line for the sweep. Imports rich.

Where the output is no terminal, one line a trial's end is printed instead.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segsweep.leaderboard import describe_sample, rank
from segsweep.objectives import Front, Mode, Objective
from segsweep.pareto import shown
from segsweep.search.budget import point_of
from segsweep.search.study import TrialRecord

__all__ = ["ProgressObserver"]


class ProgressObserver:
    """Shows a sweep as it goes.

    Args:
        console: Where to.
        metric: The searched score.
        mode: Its direction.
        budget: How many trials the sweep will have.
        before: The trials of earlier launches.
        further: Objectives beside the score.
    """

    def __init__(
        self,
        console: Console,
        metric: str,
        mode: Mode,
        budget: int,
        before: Sequence[TrialRecord] = (),
        further: Sequence[Objective] = (),
    ) -> None:
        self.console, self.metric, self.mode, self.budget = console, metric, mode, budget
        self.objectives = (Objective(metric, mode), *further)
        earlier = [record for record in before if record.ended]
        self.front = Front()
        for record in earlier:
            self.place(record)
        self.ended = len(earlier)
        self.outcomes = Counter(record.outcome for record in earlier)
        self.best = next(iter(rank(earlier, mode)), None)
        self.running: dict[int, tuple[TrialRecord, int, float]] = {}
        self.reported = False
        self.waiting = ""
        self.printed: set[str] = set()
        self.started_s = time.monotonic()
        self.live = Live(console=console, get_renderable=self.render, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def trial_started(self, record: TrialRecord) -> None:
        """See `SweepObserver`."""
        self.running[record.number] = (record, max(record.scores, default=0), record.best_score)

    def epoch_ended(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """See `SweepObserver`."""
        self.reported = True
        if number in self.running:
            record = self.running[number][0]
            self.running[number] = (record, epoch, scores.get(self.metric, math.nan))

    def trial_ended(self, record: TrialRecord) -> None:
        """See `SweepObserver`."""
        self.running.pop(record.number, None)
        self.place(record)
        self.ended += 1
        self.outcomes[record.outcome] += 1
        if rank([record], self.mode) and (self.best is None or self.beats(record, self.best)):
            self.best = record
        self.console.print(self.line_of(record), highlight=False, soft_wrap=True, markup=False)

    def place(self, record: TrialRecord) -> None:
        """Puts a trial that has ended on the front of several objectives, if it belongs there."""
        point = point_of(record, self.objectives)
        if point is not None:
            self.front.add(record.number, point)

    def waits_for(self, line: str) -> None:
        """Shows what trials wait for as long as they do ("" = nothing); without a terminal each such line once."""
        self.waiting = line
        if line and not self.console.is_terminal and line not in self.printed:
            self.printed.add(line)
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def beats(self, record: TrialRecord, other: TrialRecord) -> bool:
        """Tells whether `record` is better than `other`."""
        ahead = record.best_score - other.best_score
        return ahead > 0 if self.mode == "max" else ahead < 0

    def line_of(self, record: TrialRecord) -> str:
        """Returns the line that stays when a trial has ended."""
        score = "no score" if record.best_epoch is None else f"{self.metric} {record.best_score:.4f}"
        values = record.values
        score += "".join(
            f", {one.name} {shown(one.name, values[one.name])}" for one in self.objectives[1:] if one.name in values
        )
        at = "" if record.best_epoch is None else f" at epoch {record.best_epoch}/{record.planned_epochs}"
        reason = f" ({record.reason})" if record.outcome in ("crashed", "failed", "over-limit") else ""
        width = len(str(self.budget))
        head = f"[{self.ended:{width}d}/{self.budget}] trial {record.number:04d} {record.outcome:9s}"
        return f"{head} {score}{at}  {describe_sample(record.in_force)}{reason}"

    def render(self) -> Group:
        """Returns what stands below the finished lines: a row a running trial, then the sweep's own line."""
        table = Table(box=None, pad_edge=False, show_header=bool(self.running))
        for name in ("running", "epoch", self.metric, "parameters"):
            table.add_column(name, overflow="ellipsis", no_wrap=True)
        for number, (record, epoch, score) in sorted(self.running.items()):
            so_far = "-" if math.isnan(score) else f"{score:.4f}"
            parameters = Text(describe_sample(record.in_force))
            table.add_row(f"{number:04d}", f"{epoch}/{record.planned_epochs}", so_far, parameters)
        lines = [self.summary(), *filter(None, [self.waiting])]
        return Group(table, *map(Text, lines))

    def summary(self) -> str:
        """Returns one line about the sweep: trials, outcomes, best, time."""
        minutes, seconds = divmod(int(time.monotonic() - self.started_s), 60)
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        ended = f"{self.ended}/{self.budget} trials ended{': ' + counts if counts else ''}"
        best = f"; best {self.best.best_score:.4f} (trial {self.best.number:04d})" if self.best else ""
        if len(self.objectives) > 1 and self.best:
            best += f"; {len(self.front.points)} on the Pareto front"
        loading = "" if self.reported else "; training processes are loading, 10 to 60 s"
        return f"{ended}{best}{loading}; {minutes}:{seconds:02d}"
