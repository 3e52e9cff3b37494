"""The live table of a running sweep: one row a running trial, one line for the sweep. Imports rich.

Where the output is no terminal, one line a trial's end is printed instead.
"""

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segsweep.leaderboard import describe_sample
from segsweep.search.study import Mode, TrialRecord

__all__ = ["ProgressObserver"]


class ProgressObserver:
    """Shows a sweep as it goes.

    Args:
        console: Where to.
        metric: The searched score.
        mode: Its direction.
        budget: How many trials the sweep will have.
        ended: How many of them had ended before this launch.
    """

    def __init__(self, console: Console, metric: str, mode: Mode, budget: int, ended: int = 0) -> None:
        self.console, self.metric, self.mode, self.budget, self.ended = console, metric, mode, budget, ended
        self.running: dict[int, tuple[TrialRecord, int, float]] = {}
        self.best: TrialRecord | None = None
        self.outcomes: dict[str, int] = {}
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
        if number in self.running:
            record = self.running[number][0]
            self.running[number] = (record, epoch, scores.get(self.metric, math.nan))

    def trial_ended(self, record: TrialRecord) -> None:
        """See `SweepObserver`."""
        self.running.pop(record.number, None)
        self.ended += 1
        self.outcomes[record.outcome] = self.outcomes.get(record.outcome, 0) + 1
        if record.best_epoch is not None and (self.best is None or self.beats(record, self.best)):
            self.best = record
        self.console.print(self.line_of(record), highlight=False, soft_wrap=True)

    def beats(self, record: TrialRecord, other: TrialRecord) -> bool:
        """Tells whether `record` is better than `other`."""
        ahead = record.best_score - other.best_score
        return ahead > 0 if self.mode == "max" else ahead < 0

    def line_of(self, record: TrialRecord) -> str:
        """Returns the line that stays when a trial has ended."""
        score = "no score" if record.best_epoch is None else f"{self.metric} {record.best_score:.4f}"
        at = "" if record.best_epoch is None else f" at epoch {record.best_epoch}/{record.planned_epochs}"
        reason = f" ({record.reason})" if record.outcome in ("crashed", "failed") else ""
        width = len(str(self.budget))
        head = f"[{self.ended:{width}d}/{self.budget}] trial {record.number:04d} {record.outcome:9s}"
        return f"{head} {score}{at}  {describe_sample(record.sample)}{reason}"

    def render(self) -> Group:
        """Returns what stands below the finished lines: a row a running trial, then the sweep's own line."""
        table = Table(box=None, pad_edge=False, show_header=bool(self.running))
        for name in ("running", "epoch", self.metric, "parameters"):
            table.add_column(name, overflow="ellipsis", no_wrap=True)
        for number, (record, epoch, score) in sorted(self.running.items()):
            shown = "-" if math.isnan(score) else f"{score:.4f}"
            table.add_row(f"{number:04d}", f"{epoch}/{record.planned_epochs}", shown, describe_sample(record.sample))
        return Group(table, Text(self.summary()))

    def summary(self) -> str:
        """Returns one line about the sweep: trials, outcomes, best, time."""
        minutes, seconds = divmod(int(time.monotonic() - self.started_s), 60)
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        best = f"; best {self.best.best_score:.4f} (trial {self.best.number:04d})" if self.best else ""
        return f"{self.ended}/{self.budget} trials ended{': ' + counts if counts else ''}{best}; {minutes}:{seconds:02d}"
