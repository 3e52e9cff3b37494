"""The ensemble file: a round trip, and what a broken one says."""

import json
import math
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from ensembling import ENSEMBLE_FILE, EnsembleMember, EnsembleRecord, FusionSettings, read_ensemble, write_ensemble
from segdata.errors import InputError


def record(folder: Path) -> EnsembleRecord:
    return EnsembleRecord(
        task="instance",
        members=(
            EnsembleMember(path=folder / "members" / "t1", weight=2.0, trial="t1", config_hash="abc"),
            EnsembleMember(path=folder.parent / "t2"),
        ),
        method="wbf",
        settings=FusionSettings(iou_threshold=0.6),
        dataset_fingerprint="0123456789abcdef",
        scores={"t1": {"segm_mAP": 0.1 + 0.2, "segm_mAP_l": math.nan}, "ensemble": {"segm_mAP": 0.5}},
        code_version="0",
    )


def test_ensemble_file_comes_back_as_written(tmp_path: Path) -> None:
    written = record(tmp_path / "ensemble")
    assert written.scores["t1"]["segm_mAP_l"] is None  # absent in the truth
    path = write_ensemble(written, tmp_path / "ensemble")
    assert path == tmp_path / "ensemble" / ENSEMBLE_FILE
    assert read_ensemble(path) == written
    assert read_ensemble(path.parent) == written


def test_a_moved_ensemble_still_finds_its_members(tmp_path: Path) -> None:
    write_ensemble(record(tmp_path / "old" / "ensemble"), tmp_path / "old" / "ensemble")
    raw = json.loads((tmp_path / "old" / "ensemble" / ENSEMBLE_FILE).read_text())
    assert [member["path"] for member in raw["members"]] == ["members/t1", "../t2"]
    shutil.move(tmp_path / "old", tmp_path / "new")
    moved = read_ensemble(tmp_path / "new" / "ensemble")
    assert moved.members[1].path == tmp_path / "new" / "t2"


def test_a_missing_ensemble_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ensemble\.json: expected an ensemble file, but got: No such file"):
        read_ensemble(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("members", [], "got at members: .*at least 1 item"),
        ("schema_version", 3, "got at schema_version"),
        ("method", "vote", r"ensemble\.json: expected at method one of wbf, .*, but got 'vote'"),
        ("method", "soft-vote", r"ensemble\.json: expected at method one of wbf, .*, but got 'soft-vote'"),
        ("member", 1, "got at member: .*not permitted"),
    ],
)
def test_a_broken_ensemble_file_names_the_key(key: str, value: object, message: str, tmp_path: Path) -> None:
    path = write_ensemble(record(tmp_path), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=message):
        read_ensemble(path)


def test_settings_out_of_range_in_the_file_are_refused(tmp_path: Path) -> None:
    path = write_ensemble(record(tmp_path), tmp_path)
    raw = json.loads(path.read_text())
    raw["settings"]["iou_threshold"] = 2.0
    path.write_text(json.dumps(raw))
    with pytest.raises(
        InputError, match=r"ensemble\.json: .*iou_threshold: expected at least 0 and below 1, but got 2.0"
    ):
        read_ensemble(path)


def test_a_members_view_is_read_in_its_one_form(tmp_path: Path) -> None:
    member = EnsembleMember(path=Path("a"), view="scale1.5+hflip+rot180")
    assert (member.view, EnsembleMember(path=Path("a")).view) == ("vflip+scale1.5", "plain")
    with pytest.raises(ValidationError, match="expected plain, or words of .* but got 'hflop'"):
        EnsembleMember(path=Path("a"), view="hflop")
