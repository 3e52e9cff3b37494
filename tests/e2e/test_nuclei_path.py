"""The README's nuclei path on a subset of the real images: masks -> import, check, split, run, best, ensemble."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def segsweep(tmp_path):
    """Runs the command in an empty folder, as a user would, and returns its standard output."""
    environment = os.environ | {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "80"}

    def run(*words) -> str:
        command = [str(Path(sys.executable).parent / "segsweep"), *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return run


def raw_subset(real_data, out, part, count):
    folders = sorted((real_data / "nuclei_24_6" / part).iterdir())[:count]
    for folder in folders:
        shutil.copytree(folder, out / part / folder.name)
    return out / part


def test_mask_folders_to_ensemble(real_data, tmp_path, segsweep):
    train = raw_subset(real_data, tmp_path / "raw", "train", 8)
    test = raw_subset(real_data, tmp_path / "raw", "test", 2)
    segsweep("data", "import-masks", train, "data/nuclei", "--class", "nucleus", "--scale", 0.5)
    segsweep("data", "import-masks", test, "data/nuclei-test", "--class", "nucleus", "--scale", 0.5)
    assert "0 errors" in segsweep("data", "check", "data/nuclei")
    segsweep("data", "split", "data/nuclei", "--out", "data/nuclei/split.json", "--val", 0.25, "--write-coco")

    sweep = yaml.safe_load((ROOT / "examples" / "nuclei.yaml").read_text())
    sweep["budget"] = {"trials": 2, "concurrent": 2}
    sweep["search"]["scheduler"] = "none"
    sweep["space"] = {"lr": {"float": [0.001, 0.002]}}
    sweep["fixed"] |= {"model": "mask-rcnn", "epochs": 40, "validation_interval": 20, "head_width": 0.125}
    (tmp_path / "nuclei.yaml").write_text(yaml.safe_dump(sweep))
    assert "fine" in segsweep("check", "nuclei.yaml")
    segsweep("run", "nuclei.yaml")

    rows = json.loads(segsweep("best", "nuclei", "--top", 2, "--json"))
    assert [row["outcome"] for row in rows] == ["completed", "completed"]
    assert rows[0]["segm_mAP"] >= rows[1]["segm_mAP"] > 0.02  # 80 steps on six images: it has begun to learn
    result = json.loads(segsweep("ensemble", "nuclei", "--top", 2, "--json"))
    assert result["role"] == "test"
    scores = {row["name"]: row["scores"]["segm_mAP"] for row in result["rows"]}
    assert set(scores) == {"0000", "0001", "wbf of all", "wbf chosen"}
    assert all(score > 0.02 for score in scores.values())
