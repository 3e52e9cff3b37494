"""`segsweep weights fetch` from a mirror on loopback: once by the real command, otherwise by its function."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from rich.console import Console

from segdata.errors import InputError
from segdata.synthetic import synthesize
from segsweep.cli.weights import fetch
from segsweep.initial_weights import check_weights, needed_files
from segsweep.sweep_file import load_sweep
from segsweep.weights_fetch import Row, fetch_all

# Encoders of segmentation-models-pytorch, whose files have no hash in their names: a test can stand in for them.
SWEEP = """\
name: first
task: semantic
data:
  train: {labels: data/labels, images: data/images}
  val: {labels: data/labels, images: data/images}
budget: {trials: 2}
space:
  backbone: {choice: [resnet18, mobilenet_v2]}
fixed: {model: smp-unet, init: imagenet, epochs: 1}
weights: {folder: cache}
"""
BODY = (2).to_bytes(8, "little") + b"{}" + bytes(1000)  # begins like a safetensors file


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server's address and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SEGSWEEP_WEIGHTS", "SEGSWEEP_WEIGHTS_MIRROR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    synthesize("litter", tmp_path / "data", images=2, size=64)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path / "sweep.yaml"


def segsweep(folder: Path, *arguments: str, expect: int, **environment: str) -> str:
    """Runs the command and returns all that it printed."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("segsweep")), *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "100", "MLFLOW_DISABLE_TELEMETRY": "true"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == expect, done.stdout
    return done.stdout


@pytest.fixture
def names(sweep: Path) -> list[str]:
    """The files that the sweep needs."""
    found = list(needed_files(load_sweep(sweep)))
    assert [name.split("--")[1] for name in found] == ["resnet18.imagenet", "mobilenet_v2.imagenet"]
    return found


@pytest.mark.slow
def test_check_asks_for_fetch(sweep: Path, names: list[str]) -> None:
    refused = segsweep(sweep.parent, "check", "sweep.yaml", expect=2)
    assert f"of the space in {sweep.parent / 'cache'}, but {names[0]} and 1 more are not there" in refused
    assert f"segsweep weights fetch {sweep}" in refused and len(refused.splitlines()) == 1


@pytest.mark.slow
def test_fetch_goes_on_where_it_stopped(sweep: Path, mirror: tuple[str, Path], names: list[str]) -> None:
    address, served = mirror
    (served / names[0]).write_bytes(BODY)
    half = segsweep(sweep.parent, "weights", "fetch", "sweep.yaml", "--mirror", address, "--tries", "1", expect=1)
    assert f"error: {address}/{names[1]}: expected {names[1]}, but the server answered 404" in half
    assert f"1 of 2 files in {sweep.parent / 'cache'}" in half
    assert [path.name for path in (sweep.parent / "cache").iterdir()] == [names[0]]
    (served / names[0]).unlink()
    (served / names[1]).write_bytes(BODY)
    assert {row.state for row in fetched(sweep, address)} == {"present", "fetched"}
    check_weights(load_sweep(sweep), {})


def fetched(sweep: Path, mirror: str) -> tuple[Row, ...]:
    """Fetches all that the sweep needs, as the command does."""
    loaded = load_sweep(sweep)
    assert loaded.weights is not None
    return fetch_all(needed_files(loaded), loaded.weights, mirror, Console(quiet=True))


def test_the_result_as_json(
    sweep: Path, mirror: tuple[str, Path], names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    address, served = mirror
    sweep.write_text(SWEEP.replace("folder: cache", f"folder: cache, mirror: '{address}'"))
    (served / names[0]).write_bytes(BODY)
    with pytest.raises(typer.Exit) as ended:
        fetch(sweep, tries=1, as_json=True)
    assert ended.value.exit_code == 1
    done = json.loads(capsys.readouterr().out)
    assert done["folder"] == str(sweep.parent / "cache")
    assert [(row["file"], row["state"], row["bytes"]) for row in done["files"]] == [
        (names[0], "fetched", len(BODY)),
        (names[1], "failed", None),
    ]
    assert "answered 404" in done["files"][1]["problem"]
    assert done["files"][1]["needed_by"] == ["smp-unet mobilenet_v2 imagenet"]


def test_a_narrow_table_keeps_whole_file_names(
    sweep: Path,
    mirror: tuple[str, Path],
    names: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, served = mirror
    monkeypatch.setenv("COLUMNS", "80")
    for name in names:
        (served / name).write_bytes(BODY)
    fetch(sweep, mirror=address)
    table = "".join(line.split(" ")[0] for line in capsys.readouterr().out.splitlines())
    assert all(name in table for name in names)


def test_a_sweep_without_published_weights(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.write_text(SWEEP.replace("init: imagenet", "init: none"))
    fetch(sweep)
    assert capsys.readouterr().out == "this sweep needs no published weights\n"
    assert not (sweep.parent / "cache").exists()


def test_the_nodes_environment_comes_before_the_sweep_file(
    sweep: Path, mirror: tuple[str, Path], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served = mirror
    for name in names:
        (served / name).write_bytes(BODY)
    sweep.write_text(SWEEP.replace("folder: cache", "folder: cache, mirror: 'http://127.0.0.1:9'"))
    monkeypatch.setenv("SEGSWEEP_WEIGHTS", str(sweep.parent / "node"))
    monkeypatch.setenv("SEGSWEEP_WEIGHTS_MIRROR", address)
    fetch(sweep)
    assert sorted(path.name for path in (sweep.parent / "node").iterdir()) == sorted(names)
    assert not (sweep.parent / "cache").exists()


@pytest.mark.parametrize("mirror", ["http://", "http://127.0.0.1:abc/", "http://[::1/x", "https://a.org/x?key=1"])
def test_a_mirror_that_can_be_no_address_is_refused_before_any_try(sweep: Path, mirror: str) -> None:
    with pytest.raises(InputError, match="mirror: expected a URL below which files lie by their names"):
        fetch(sweep, mirror=mirror)
    assert not (sweep.parent / "cache").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("init: imagenet", "init: imagnet", "imagnet.*imagenet"),
        ("mobilenet_v2", "resnext101_32x4d", "no imagenet for smp-unet with resnext101_32x4d"),
        ("folder: cache", "mirror: /srv/weights", "weights.mirror: expected a URL .*got '/srv/weights'"),
        ("folder: cache", "folder: sweep.yaml", "sweep.yaml: expected a folder to write to, but got: "),
        ("model: smp-unet", "model: smp-unet, width: 0.5", "width 0.5|width 1 with init imagenet|got width"),
    ],
    ids=["word", "none-published", "mirror", "folder-is-a-file", "width"],
)
def test_wrong_input(sweep: Path, old: str, new: str, message: str) -> None:
    sweep.write_text(SWEEP.replace(old, new))
    with pytest.raises(InputError, match=message) as told:
        fetch(sweep)
    assert "\n" not in str(told.value) and not (sweep.parent / "cache").exists()


def test_a_mirror_must_be_a_url(sweep: Path) -> None:
    with pytest.raises(InputError, match="mirror: expected a URL .*got '/srv/weights'"):
        fetch(sweep, mirror="/srv/weights")
