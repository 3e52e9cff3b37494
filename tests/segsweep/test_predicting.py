"""What a prediction says while it works."""

from pathlib import Path

import pytest
from rich.console import Console

from segdata.prediction_parts import ImageFile, PredictionParts
from segdata.predictions import PredictedImage, PredictionMeta
from segsweep.predicting import telling_of_disk
from trainables.prediction_job import PredictionJob

META = PredictionMeta(task="semantic", classes=("a", "b"), dataset_fingerprint="", code_version="t", codec="prob8")


@pytest.mark.parametrize(
    ("sets", "stride", "told"), [(1, 1, ""), (2, 1, "up to 1.6 GB of disk for class probabilities"), (2, 4, "")]
)
def test_much_disk_is_told_once_when_the_model_is_known(
    sets: int, stride: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ImageFile(PredictedImage(id=1, file_name="a.png", width=20_000, height=20_000), 1)
    known = ImageFile(PredictedImage(id=2, file_name="b.png", width=20_000, height=20_000), 1)
    job = PredictionJob(tmp_path, tmp_path, tmp_path, (file, known), frozenset({"a.png"}), tmp_path, sets=sets)
    shown: list[int] = []
    show = telling_of_disk(shown.append, job, "trial 3 predicts", Console())
    show(0)
    assert capsys.readouterr().out == "", "nobody knows the classes yet"
    PredictionParts(tmp_path).write_meta(META.model_copy(update={"stride": stride}))
    show(0)
    printed = capsys.readouterr().out
    assert told in printed and bool(told) == bool(printed)
    show(1)
    assert capsys.readouterr().out == "" and shown == [0, 0, 1]
