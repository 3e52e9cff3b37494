"""A sweep that begins with what the zoo has published, by the real command, and goes on without trying it twice."""

import json
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow


def test_a_prior_is_tried_after_the_baseline_and_once(workplace: Any) -> None:
    """Of Mask R-CNN on ResNet-18 nothing is published; it is the baseline all the same."""
    workplace.synthesize()
    workplace.write_sweep(
        {"epochs": 1},
        {"model": {"choice": ["mask-rcnn", "cascade-mask-rcnn"]}, "backbone": {"choice": ["r18", "r50"]}},
        budget={"trials": 2, "concurrent": 2},
        search={"priors": 1, "seed": 5},
    )
    path = workplace.folder / "sweep.yaml"
    values = yaml.safe_load(path.read_text())
    del values["fixed"]["model"], values["fixed"]["backbone"]  # they are searched here
    path.write_text(yaml.safe_dump(values))
    done = workplace.run("run", "sweep.yaml")
    assert "prior: cascade-mask-rcnn r50 (published mask AP 38.5 with 5.9 GB)" in done.stdout.splitlines()
    workplace.run("resume", "tiny", "--trials", "+1")
    records = workplace.records()
    assert [record.origin for record in records] == ["baseline", "prior", "sampler"]
    networks = [(record.sample["model"], record.sample["backbone"]) for record in records[:2]]
    assert networks == [("mask-rcnn", "r18"), ("cascade-mask-rcnn", "r50")]
    assert [record.outcome for record in records] == ["completed"] * 3
    points = json.loads((workplace.run_folder.path / "points.json").read_text())
    assert [point["id"] for point in points] == ["prior-0001"]
