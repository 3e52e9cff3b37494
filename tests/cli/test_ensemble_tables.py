"""What a choice says of its members, for scores of which more is better and for errors."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ensembling.selection import Candidate, SelectedMember, Selection
from ensembling.settings import FusionSettings
from segsweep.cli.ensemble_tables import closing_lines, print_choice
from segsweep.ensembles.building import EnsembleResult
from segsweep.ensembles.rows import ScoreRow

MEMBERS = (
    SelectedMember(Candidate("0001", Path()), 0.6, 0.30, 0.35, 0.30),
    SelectedMember(Candidate("0002", Path()), 0.4, 0.40, None, 0.20),
)
CHOSEN = Selection("wbf", FusionSettings(sigma=0.25), MEMBERS, 0.20, ("0001", 0.30), False, 0.22, 9, None)


def result(mode: Any, **row: Any) -> EnsembleResult:
    single = ScoreRow("0001", Path(), {"error": 0.3})
    fused = ScoreRow("wbf chosen", Path("out/wbf-chosen/predictions"), {"error": 0.2}, selection=CHOSEN, **row)
    return EnsembleResult("test", "select", "error", mode, 40, (single,), (fused,), Path("out"), 1, "wbf chosen")


@pytest.mark.parametrize(("mode", "adds"), [("min", "+0.1500"), ("max", "-0.1500")])
def test_a_member_adds_what_the_ensemble_is_better_with_it(mode: str, adds: str) -> None:
    told = io.StringIO()
    of = result(mode)
    print_choice(of.ensembles[0], CHOSEN, of, Console(file=told, width=80))
    lines = told.getvalue().splitlines()
    assert next(line for line in lines if line.startswith("0001")).split() == [
        "0001",
        "0.600",
        "0.3000",
        "0.3500",
        adds,
    ]
    assert next(line for line in lines if line.startswith("0002")).split() == ["0002", "0.400", "0.4000"]
    assert any("sigma=0.25" in line for line in lines)


@pytest.mark.parametrize(("mode", "verdict"), [("min", "better"), ("max", "worse")])
def test_the_verdict_knows_whether_more_is_better(mode: str, verdict: str) -> None:
    lines = closing_lines(result(mode))
    assert lines[0] == f"wbf chosen is 0.1000 {verdict} than the best single member on test"
    assert lines[-1].endswith("segsweep predict --ensemble out/wbf-chosen/ensemble.json --images FOLDER")


def test_an_ensemble_with_another_tool_offers_no_command_for_new_images() -> None:
    assert closing_lines(result("min", labels_new=False))[-1].startswith("wbf chosen labels no new images")
