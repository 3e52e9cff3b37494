"""A sweep on a cluster of two nodes, each of which copies the shared images once to a disk of its own."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segdata.coco import read_coco, write_coco

pytestmark = pytest.mark.slow

IMAGES, TRIALS = 10, 4
PARTS = {"train": (0, 6), "val": (6, 8), "test": (8, 10)}  # the first two are trained on
COPIED = re.compile(r"segsweep: (\S+): (\d+) files \(.* GB\) copied to (\S+)/images/folders/")


@pytest.fixture(scope="module")
def cluster(shared_workplace: Any) -> Iterator[str]:
    """The address of a cluster of two nodes with a CPU each, whose caches lie in `node-0` and `node-1`."""
    from ray.cluster_utils import Cluster

    from segsweep.ray_session import SETTINGS

    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        patch.delenv("RAY_AUTH_MODE", raising=False)  # Ray sets it when it starts a head, which then asks for a token
        patch.setitem(shared_workplace.environment, "RAY_AUTH_MODE", "token")
        nodes = Cluster()
        try:
            for number in range(2):
                cache = {"SEGSWEEP_CACHE": str(shared_workplace.folder / f"node-{number}")}
                nodes.add_node(num_cpus=1, env_vars=cache, include_dashboard=False)
            yield nodes.address
        finally:
            nodes.shutdown()


def data_in_parts(folder: Path) -> dict[str, dict[str, str]]:
    """Writes annotations for each role, whose images are different ones of one folder."""
    whole = read_coco(folder / "annotations.json")
    names = sorted(image.file_name for image in whole.images)
    for role, (first, last) in PARTS.items():
        write_coco(whole.subset(names[first:last]), folder / f"{role}.json")
    return {role: {"annotations": f"data/{role}.json", "images": "data/images"} for role in PARTS}


def copies(place: Any) -> list[tuple[str, int, str]]:
    """What the trials' logs say of copies: the folder, how many files, and the node's cache."""
    logs = [place.run_folder.trial(number).log for number in range(TRIALS)]
    text = "\n".join(log.read_text() for log in logs if log.is_file())
    return sorted((Path(found[1]).name, int(found[2]), Path(found[3]).name) for found in COPIED.finditer(text))


def test_each_node_copies_once_and_its_trials_need_the_shared_folder_no_more(
    cluster: str, shared_workplace: Any, wait: Callable[..., None]
) -> None:
    place = shared_workplace
    place.synthesize(IMAGES)
    place.write_sweep(
        {"epochs": 2},
        {"lr": {"float": [1e-5, 1e-3], "log": True}},
        data=data_in_parts(place.folder / "data"),
        budget={"trials": TRIALS, "concurrent": 2},
        resources={"cpu": 1},
        storage={"cache_images": True},
    )
    process = place.start("run", "sweep.yaml", "--address", cluster)
    expected = [("images", 8, "node-0"), ("images", 8, "node-1")]
    wait(lambda: copies(place) == expected, process)
    images = place.folder / "data" / "images"
    images.rename(place.folder / "away")
    out, err = process.communicate(timeout=400)
    (place.folder / "away").rename(images)
    assert process.returncode == 0, f"{out}\n{err}"
    assert {record.outcome for record in place.records()} == {"completed"} and len(place.records()) == TRIALS
    assert copies(place) == expected
    for number in range(TRIALS):
        config = place.run_folder.trial(number).config.read_text()
        assert str(images) in config and "node-" not in config


def test_networks_of_folds_read_the_same_copies(cluster: str, shared_workplace: Any) -> None:
    place = shared_workplace
    place.run("ensemble", "tiny", "--top", "1", "--folds", "2", "--address", cluster)
    logs = sorted(place.run_folder.folds.rglob("train.log"))
    assert len(logs) == 2 and not any(COPIED.search(log.read_text()) for log in logs)
    assert place.run_folder.folds / "k2" / "data" / "images.json" in place.run_folder.folds.rglob("images.json")
    kept = {path.name for path in (place.folder / "data" / "images").iterdir()}
    for node in ("node-0", "node-1"):
        (copy,) = [path for path in (place.folder / node / "images" / "folders").iterdir() if path.is_dir()]
        assert {path.name for path in copy.iterdir()} < kept
