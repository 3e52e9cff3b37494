"""Fusing in shards: the same bytes as in one go, resumed after a kill, and told beforehand what it takes."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from ensembling import FusionSettings, fuse
from segdata.errors import InputError
from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionSet, PredictionWriter
from segdata.rle import rle_encode
from segsweep.ensembles import fusing
from segsweep.ensembles.fusing import fuse_sharded
from segsweep.ensembles.fusing_job import FusingJob, fuse_share

IMAGES = tuple(PredictedImage(id=100 - i, file_name=f"{i}.png", width=20 + i, height=16) for i in range(7))
CASES = [
    ("instance", "wbf", FusionSettings()),
    ("instance", "mask-fusion", FusionSettings(mask_threshold=0.3)),
    ("prob8", "soft-vote", FusionSettings()),
    ("prob8", "soft-vote", FusionSettings(output="labels")),
    ("labels", "hard-vote", FusionSettings()),
]


def meta_of(codec: Any, stride: int = 1) -> PredictionMeta:
    return PredictionMeta(
        task="instance" if codec == "coco-rle" else "semantic",
        classes=("background", "bag", "bottle"),
        category_ids=(1, 2, 3) if codec == "coco-rle" else (),
        dataset_fingerprint="f",
        code_version="0",
        codec=codec,
        stride=stride,
        max_detections=50 if codec == "coco-rle" else None,
    )


def write_member(path: Path, kind: str, seed: int, images: tuple[PredictedImage, ...] = IMAGES) -> Path:
    """Random predictions; the second image is empty."""
    rng = np.random.default_rng(seed)
    meta = meta_of("coco-rle" if kind == "instance" else kind, stride=2 if kind == "prob8" else 1)
    with PredictionWriter(path, meta) as writer:
        for place, image in enumerate(images):
            if kind == "prob8":
                raw = cv2.resize(rng.random((4, 5, 3)).astype(np.float32), (image.width, image.height)).transpose(
                    2, 0, 1
                )
                writer.add_probabilities(image, raw / raw.sum(axis=0))
            elif kind == "labels":
                writer.add_labels(image, rng.integers(0, 3, (image.height, image.width)))
            else:
                writer.add_instances(image, random_instances(rng, image, 0 if place == 1 else 4))
    return path


def random_instances(rng: np.random.Generator, image: PredictedImage, count: int) -> ImageInstances:
    boxes, rles = [], []
    for x, y in rng.integers(0, 9, (count, 2)).tolist():
        mask_HW = np.zeros((image.height, image.width), dtype=np.bool_)
        mask_HW[y : y + 6, x : x + 7] = True
        boxes.append((x, y, x + 7, y + 6))
        rles.append(rle_encode(mask_HW))
    return ImageInstances.of(boxes, rng.random(count), rng.integers(0, 2, count), tuple(rles))


def members_of(folder: Path, kind: str) -> list[Path]:
    return [write_member(folder / f"member{seed}", kind, seed) for seed in (1, 2, 3)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("kind", "method", "settings"), CASES)
@pytest.mark.parametrize("shard_images", [1, 2, 3, 6, 7])
def test_shards_come_out_as_the_whole(
    tmp_path: Path, kind: str, method: str, settings: FusionSettings, shard_images: int
) -> None:
    members = members_of(tmp_path, kind)
    how: dict[str, Any] = {"method": method, "weights": [1.0, 2.0, 0.5], "settings": settings}
    whole = fuse(members, tmp_path / "whole", **how)
    sharded = fuse_sharded(members, tmp_path / "sharded", shard_images=shard_images, **how)
    assert contents(sharded) == contents(whole) and len(contents(whole)) >= 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["member1", "member2", "member3", "sharded", "whole"]


def test_the_fused_set_reads_as_that_of_one_go(tmp_path: Path) -> None:
    members = members_of(tmp_path, "instance")
    whole = PredictionSet.open(fuse(members, tmp_path / "whole", method="nms"))
    sharded = PredictionSet.open(fuse_sharded(members, tmp_path / "sharded", method="nms", shard_images=2))
    assert sharded.meta == whole.meta and sharded.meta.images == IMAGES
    for image in IMAGES:
        one, other = whole.instances(image.file_name), sharded.instances(image.file_name)
        assert one.rles == other.rles and np.array_equal(one.boxes_xyxy, other.boxes_xyxy)


def broken_off(members: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch, after: int, **how: Any) -> list[int]:
    """Starts a fusion that is interrupted after so many shards, and returns the numbers of those that are there."""

    def interrupted(job: FusingJob, fusion: Any) -> Any:
        for done, count in enumerate(fusing_share(job, fusion)):
            if done == after:
                raise KeyboardInterrupt
            yield count

    fusing_share = fusing.fuse_share
    with monkeypatch.context() as patch:
        patch.setattr(fusing, "fuse_share", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fuse_sharded(members, out, shard_images=2, **how)
    return sorted(int(path.name) for path in out.with_name(f"{out.name}.fusing").glob("shards/*"))


def test_what_was_broken_off_goes_on_with_the_missing_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = members_of(tmp_path, "prob8")
    assert broken_off(members, tmp_path / "out", monkeypatch, 1, method="soft-vote") == [0, 1]
    parts = tmp_path / "out.fusing" / "shards"
    (parts / ".000002.dead.partial").mkdir()  # what a kill leaves of a shard in the making
    kept = {path: path.stat().st_ino for path in parts.rglob("*.npz")}
    fused: list[int] = []
    whole = fusing.fuse_share
    monkeypatch.setattr(fusing, "fuse_share", lambda job, fusion: (fused.extend(job.missing), whole(job, fusion))[1])
    out = fuse_sharded(members, tmp_path / "out", method="soft-vote", shard_images=2)
    assert fused == [2, 3]
    assert {path.stat().st_ino for path in (out / "probabilities").iterdir()} >= set(kept.values())
    assert contents(out) == contents(fuse(members, tmp_path / "whole", method="soft-vote"))
    assert not (tmp_path / "out.fusing").exists()


@pytest.mark.parametrize("change", ["method", "settings", "weights", "member"])
def test_shards_of_another_fusion_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    members = members_of(tmp_path, "instance")
    broken_off(members, tmp_path / "out", monkeypatch, 2, method="wbf", weights=[1, 1, 1])
    how: dict[str, Any] = {"method": "wbf", "weights": [1, 1, 1]}
    how |= {"method": {"method": "nms"}, "settings": {"settings": FusionSettings(iou_threshold=0.1)}}.get(change, {})
    how |= {"weights": [3, 1, 1]} if change == "weights" else {}
    if change == "member":
        shutil.rmtree(members[0])
        write_member(members[0], "instance", 9)
    out = fuse_sharded(members, tmp_path / "out", shard_images=2, **how)
    assert contents(out) == contents(fuse(members, tmp_path / "whole", **how))


def test_a_shard_that_another_process_has_fused_meanwhile_counts_as_done(tmp_path: Path) -> None:
    members = tuple(members_of(tmp_path, "prob8"))
    job = FusingJob(members, "soft-vote", None, FusionSettings(), False, tmp_path / "parts", 3, missing=(0, 1, 2))
    (tmp_path / "parts" / "shards").mkdir(parents=True)
    job.prepared().write(job.shard(1), IMAGES[3:6])
    assert list(fuse_share(job)) == [3, 3, 1]
    assert [len(PredictionSet.open(job.shard(number)).meta.images) for number in (0, 1, 2)] == [3, 3, 1]


def test_a_wrong_member_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    members = members_of(tmp_path, "instance")
    (members[2] / "instances.json").write_text(
        (members[2] / "instances.json").read_text().replace('"score": 0', '"score": 7')
    )
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError, match=r"member3: expected confidences within 0\.\.1 in"):
        fuse_sharded(members, tmp_path / "out", method="wbf", shard_images=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_folder_of_other_files_is_not_touched(tmp_path: Path) -> None:
    members = members_of(tmp_path, "labels")
    (tmp_path / "out.fusing").mkdir()
    (tmp_path / "out.fusing" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"out\.fusing: expected a fusion that was broken off, or nothing"):
        fuse_sharded(members, tmp_path / "out", method="hard-vote", shard_images=2)
    assert (tmp_path / "out.fusing" / "mine.txt").read_text() == "mine"


def test_too_little_room_is_told_beforehand_and_finished_shards_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = members_of(tmp_path, "prob8")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fusing.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(InputError, match=r"expected room for about 0\.00 GB of fused predictions, but got 0\.00 GB"):
        fuse_sharded(members, tmp_path / "out", method="soft-vote", shard_images=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["member1", "member2", "member3"]
    monkeypatch.setattr(fusing.shutil, "disk_usage", lambda _: usage)
    broken_off(members, tmp_path / "out", monkeypatch, 1, method="soft-vote")
    monkeypatch.setattr(fusing.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(InputError, match="expected room"):
        fuse_sharded(members, tmp_path / "out", method="soft-vote", shard_images=2)
    assert len(list((tmp_path / "out.fusing" / "shards").iterdir())) == 2


@pytest.mark.parametrize("kind", ["prob8", "instance"])
def test_the_need_is_that_of_the_files(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All images are of about one size and kind, so eight of them tell what fifty take."""
    images = tuple(PredictedImage(id=i, file_name=f"{i}.png", width=64, height=64) for i in range(50))
    members = [write_member(tmp_path / f"m{seed}", kind, seed, images) for seed in (1, 2)]
    told: list[float] = []
    needed = fusing.needed_bytes
    monkeypatch.setattr(fusing, "needed_bytes", lambda *given: told.append(needed(*given)) or told[-1])
    method = "soft-vote" if kind == "prob8" else "wbf"
    out = fuse_sharded(members, tmp_path / "out", method=method, shard_images=10)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert told == [pytest.approx(size * (2 if kind == "instance" else 1), rel=0.25)]


def test_over_a_gigabyte_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = members_of(tmp_path, "labels")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fusing.shutil, "disk_usage", lambda _: usage._replace(free=4_000_000_000))
    told = "the fused predictions take about 1.50 GB of the disk; 4.00 GB are free\n"
    for need, text in ((999_999_999, ""), (1_500_000_000, told)):
        monkeypatch.setattr(fusing, "needed_bytes", lambda *_, need=need: need)
        console = Console(file=io.StringIO(), width=200)
        fuse_sharded(members, tmp_path / f"o{need}", method="hard-vote", shard_images=2, console=console)
        assert console.file.getvalue() == text  # type: ignore[attr-defined]


SCRIPT = """
import sys
from pathlib import Path
from segsweep.ensembles.fusing import fuse_sharded
if __name__ == "__main__":
    address, out, *members = sys.argv[1:]
    how = {"processes": 2, "address": address or None, "method": "wbf", "shard_images": 2}
    fuse_sharded([Path(member) for member in members], Path(out), **how)
"""


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    """A command that fuses by two processes: add an address or nothing, the place and the members."""
    (tmp_path / "script.py").write_text(SCRIPT)
    return [sys.executable, str(tmp_path / "script.py")]


def shards_of(out: Path) -> list[str]:
    return sorted(path.name for path in out.with_name(f"{out.name}.fusing").glob("shards/0*"))


@pytest.mark.slow
def test_processes_fuse_the_same_also_after_a_kill(tmp_path: Path, script: list[str]) -> None:
    images = tuple(PredictedImage(id=i, file_name=f"{i}.png", width=64, height=64) for i in range(2000))
    members = [write_member(tmp_path / f"m{seed}", "instance", seed, images) for seed in (1, 2)]
    command = [*script, "", str(tmp_path / "out"), *map(str, members)]
    process = subprocess.Popen(command, start_new_session=True)
    end = time.monotonic() + 120
    while len(shards_of(tmp_path / "out")) < 3 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)
    kept = shards_of(tmp_path / "out")
    time.sleep(1)
    assert shards_of(tmp_path / "out") == kept and 3 <= len(kept) < 1000, "the children end with their parent"
    assert not (tmp_path / "out").exists()
    subprocess.run(command, check=True, timeout=120)
    assert contents(tmp_path / "out") == contents(fuse(members, tmp_path / "whole", method="wbf"))


@pytest.mark.slow
def test_processes_tell_what_is_wrong_with_a_member(tmp_path: Path) -> None:
    members = members_of(tmp_path, "prob8")
    broken = members[1] / "probabilities" / "5.npz"
    broken.write_bytes(broken.read_bytes()[:40])
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusing, "needed_bytes", lambda *_: 0)  # its sample would find the file first
        with pytest.raises(InputError, match=r"5\.npz: expected probabilities, but got"):
            fuse_sharded(members, tmp_path / "out", method="soft-vote", shard_images=1, processes=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_cluster_fuses_the_same_and_tells_what_is_wrong(
    tmp_path: Path, script: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from segsweep.ray_session import SETTINGS

    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # Ray sets it when it starts a head, which then asks for a token
    images = tuple(PredictedImage(id=i, file_name=f"{i}.png", width=20 + i, height=16) for i in range(40))
    members = [write_member(tmp_path / f"m{seed}", "instance", seed, images) for seed in (1, 2)]
    wrong = write_member(tmp_path / "wrong", "instance", 7, images)
    results = wrong / "instances.json"  # the first image is none of those that are fused to learn the need
    results.write_text(results.read_text().replace('"size": [16, 20]', '"size": [16, 29]'))
    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        command = [*script, context.address_info["gcs_address"]]
        environment = os.environ | {"RAY_AUTH_MODE": "token"}
        out = tmp_path / "out"
        subprocess.run([*command, str(out), *map(str, members)], check=True, timeout=200, env=environment)
        refused = subprocess.run(
            [*command, str(tmp_path / "none"), str(members[0]), str(wrong)],
            capture_output=True,
            text=True,
            timeout=200,
            env=environment,
        )
    finally:
        ray.shutdown()
    assert contents(out) == contents(fuse(members, tmp_path / "whole", method="wbf"))
    assert refused.stderr.splitlines()[-1].startswith("segdata.errors.InputError: "), refused.stderr
    assert "expected COCO results with RLE for 0.png" in refused.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("none*"))
