"""A driver with a stand-in for training, run as a program so that a test can kill it: a whole sweep on a real Ray Tune.

python stand_in_driver.py ADDRESS FOLDER SCHEDULER CONCURRENT TRIALS. It waits for a line on standard input, and prints
`ended NUMBER` for each trial that ends.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from search_spaces.space import parse_space
from segsweep import tuning
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources
from segsweep.run_folder import RunFolder
from segsweep.search.budget import Budget
from segsweep.search.proposals import enqueue_baseline
from segsweep.search.schedulers import build_scheduler, expect
from segsweep.search.searcher import StudySearcher
from segsweep.search.study import TrialRecord, mend_journal, open_study, trial_records
from segsweep.search_config import SamplerConfig, SchedulerConfig

METRIC, EPOCHS = "segm_mAP", 9


def stand_in(config: Mapping[str, Any], context: Any) -> None:
    """Takes the place of training: nine epochs within moments, with curves that cross; begins anew when resumed."""
    import math

    from ray import tune

    from trainables.trial_files import Outcome, TrialFiles

    files = TrialFiles(context.trials / f"{config['number']:04d}")
    files.directory.mkdir(parents=True, exist_ok=True)
    lr = config["trial"]["optimization"]["lr"]
    for epoch in range(1, 10):
        score = (1 - abs(math.log10(lr) + 2.5) / 3) * (1 - 0.5**epoch) + 0.1 * math.sin(1e4 * lr * epoch)
        tune.report({"epoch": epoch, "segm_mAP": score})
    files.write_outcome(Outcome("completed"))


class Announcer:
    """Says which trials end."""

    def trial_started(self, record: TrialRecord) -> None:
        """Says nothing."""

    def epoch_ended(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """Says nothing."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Prints the trial's number."""
        print("ended", record.number, flush=True)


def main(address: str, folder: RunFolder, scheduler: str, concurrent: int, trials: int) -> None:
    """One launch, which goes on from wherever the study stands."""
    with folder.locked(), ray_session(address, Console()):
        space = parse_space(
            {
                "lr": {"float": [1e-5, 1e-1], "log": True},
                "optimizer": {"choice": ["sgd", "adamw"]},
                "momentum": {"float": [0.5, 0.95], "when": {"optimizer": "sgd"}},
            },
            {},
            [],
            {"model": "mask-rcnn", "epochs": EPOCHS},
            task="instance",
            where="test",
        )
        mend_journal(folder.journal)
        study = open_study(folder.journal, "max", SamplerConfig.model_validate("tpe"), 7)
        enqueue_baseline(study, space)
        rule = build_scheduler(SchedulerConfig.model_validate(scheduler), METRIC, "max", EPOCHS)
        for record in trial_records(study):
            expect(rule, record, f"study-{record.number}")
        searcher = StudySearcher(
            study,
            space,
            metric=METRIC,
            mode="max",
            budget=Budget(trials),
            files_of=folder.trial,
            scheduler=rule,
            observers=[Announcer()],
        )
        folder.sweep_file.touch()  # a sweep that has begun: the lock leaves its folder alone
        context: Any = SimpleNamespace(trials=folder.trials, max_failures=0)
        if searcher.left:
            tuning.fit(searcher, context, TrialResources(0.5, 0, concurrent), folder)


if __name__ == "__main__":
    tuning.train_trial = stand_in
    if not sys.stdin.readline():
        sys.exit("nobody wants this launch")
    main(sys.argv[1], RunFolder(Path(sys.argv[2])), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
