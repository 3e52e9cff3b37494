"""`segsweep predict` with wrong input, by the real command: one message, exit code 2, nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segdata.errors import InputError
from segsweep.cli.app import app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, a config and a checkpoint that nobody can load."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "config.py").write_text("model = dict(type='FasterRCNN')\n")
    (tmp_path / "best.pth").write_bytes(b"none")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    return tmp_path


def listing(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


STOCK = ("--config", "config.py", "--checkpoint", "best.pth")
TTA = (*STOCK, "--images", "photos", "--tta")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected SOURCE, --ensemble FILE, or --config FILE with --checkpoint FILE, but got neither"),
        (("--config", "config.py"), "expected SOURCE, --ensemble FILE, or --config .* but got --config"),
        (("first", *STOCK), "but got SOURCE, --config, --checkpoint"),
        ((*STOCK,), "expected --images FOLDER or --role NAME, but got neither"),
        ((*STOCK, "--images", "photos", "--role", "test"), "expected --images FOLDER or --role NAME, but got both"),
        ((*STOCK, "--role", "test"), "--role test: expected a sweep's trial or ensemble, but got a network of none"),
        (("frist", "--images", "photos"), "expected the name of a sweep, but got 'frist'; known: none"),
        ((*STOCK, "--images", "empty"), r"empty: expected images \(.png, .*\), but got none"),
        ((*STOCK, "--images", "gone"), "gone: expected a folder of images, but got nothing there"),
        ((*STOCK, "--images", "photos", "--out", "mine"), "mine: expected a new folder, or one that"),
        ((*STOCK, "--images", "photos", "--window", "31"), "expected windows of at least 32 px, but got 31"),
        ((*STOCK, "--images", "photos", "--window", "64", "--overlap", "1"), "expected an overlap from 0 to 0.9"),
        ((*STOCK, "--images", "photos", "--scale", "2"), "--scale: expected --window with it, but got none"),
        ((*TTA, "hflop"), "--tta: expected plain, or words of hflip, vflip, .* but got 'hflop'"),
        ((*TTA, "hflip,,vflip"), "--tta: expected plain, or words of .* but got ''"),
        ((*TTA, "hflip+scale0"), r"--tta: expected a scale from 0.125 to 8, but got 'scale0'\. Write for example"),
        ((*TTA, "scale50"), "--tta: expected a scale from 0.125 to 8, but got 'scale50'"),
        ((*TTA, "window8"), "--tta: expected windows of at least 32 px, but got 'window8'"),
        ((*TTA, "hflip,scale2,hflip"), "--tta: expected each view once, but got 'hflip' twice. Leave one out"),
        ((*TTA, "rot180,hflip+vflip"), r"but got 'hflip\+vflip' twice, which is 'rot180'"),
        ((*TTA, "plain"), "--tta: expected a view beside the plain one, which is always there, but got 'plain'"),
        ((*TTA, "hflip", "--tta-method", "vote"), "--tta-method: expected a fusion method .* but got 'vote'"),
        ((*STOCK, "--images", "photos", "--tta-method", "wbf"), "--tta-method: expected --tta with it, but got none"),
        ((*STOCK, "--images", "photos", "--stride", "0"), "--stride: expected a stride from 1 to 64, but got 0"),
        ((*STOCK, "--images", "photos", "--stride", "65"), "--stride: expected a stride from 1 to 64, but got 65"),
    ],
)
def test_wrong_input_is_refused_before_anything_starts(
    folder: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = listing(folder)
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, ["predict", *arguments], catch_exceptions=False)
    assert listing(folder) == before


@pytest.mark.slow
def test_the_command_ends_with_one_message_and_exit_code_2(folder: Path) -> None:
    before = listing(folder)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("segsweep")), "predict", *STOCK, "--images", "empty"],
        cwd=folder,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: empty: expected images (") and listing(folder) == before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "127.0.0.1:1: expected a running Ray cluster, but nothing answers"),
        ("nonsense", "--address: expected HOST:PORT of a Ray cluster, but got 'nonsense'"),
    ],
)
def test_an_address_where_nothing_answers_is_refused_and_nothing_is_left(
    folder: Path, address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = listing(folder)
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, ["predict", *STOCK, "--images", "photos", "--address", address], catch_exceptions=False)
    assert listing(folder) == before
