"""A trial on a node that is not fit for it, and what trials of a model compute with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces.trial_config import TrialConfig
from segdata.errors import TrialSiteError
from trainables import ray_trainable
from trainables.ray_trainable import Computing, TrialContext, train_alone, train_trial
from trainables.trial_files import TrialFiles


class Unfit:
    def problem(self) -> str | None:
        return "node a: expected the module heads (custom_imports), but it is not installed"


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialContext:
    monkeypatch.setattr(ray_trainable, "UNFIT_S", 0.0)
    data: Any = None
    return TrialContext(
        data=data,
        trials=tmp_path / "trials",
        metric="segm_mAP",
        mode="max",
        seed=0,
        threads=4,
        loader_workers=2,
        max_failures=0,
        site=Unfit(),
    )


def test_a_trial_leaves_a_node_that_is_not_fit_and_writes_nothing(context: TrialContext) -> None:
    with pytest.raises(TrialSiteError, match="expected the module heads"):
        train_trial({"number": 0, "trial": TrialConfig().to_dict()}, context)
    with pytest.raises(TrialSiteError, match="expected the module heads"):
        train_alone(TrialConfig(), context, TrialFiles(context.trials / "fold-0"))
    assert not context.trials.exists()


def test_trials_of_a_model_compute_with_what_is_its_own(context: TrialContext) -> None:
    config = TrialConfig().to_dict()
    assert context.for_trial(config) is context
    own = replace(context, computing={config["model"]["name"]: Computing(8, 3, 2)}).for_trial(config)
    assert (own.threads, own.loader_workers, own.processes) == (8, 3, 2)
