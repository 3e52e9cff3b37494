"""`make setup`: every way in which it can stop is one line with its cure, and it can always be run again.

uv and the environment's Python are stand-ins (the network is what they replace); the script runs as a process, as make
runs it.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"

# Answers as uv does; `behave` in its folder is run at each `pip sync`.
FAKE_UV = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$1 $2" in
    "--version ") echo "uv {version}" ;;
    "cache dir") echo "$here/cache" ;;
    "venv --quiet") shift $(($# - 1)); mkdir -p "$1/bin"; cp "$here/python" "$1/bin/python"
        echo "version_info = {python}.0" > "$1/pyvenv.cfg" ;;
    "pip sync") . "$here/behave" ;;
esac
"""
# Stands for .venv/bin/python: `import torch, mmcv.ops` fails while `no-ops` exists.
FAKE_PYTHON = """#!/bin/sh
[ -e "{bin}/no-ops" ] || exit 0
echo "ImportError: _ext.so: undefined symbol: _ZN2at6Tensor" >&2
exit 1
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds what set-up reads, with the stand-in for uv where the real one would be."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from set_up import UV_VERSION

    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text(name)
    folder = tmp_path / ".setup" / "uv" / "bin"
    folder.mkdir(parents=True)
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    program(folder / "uv", FAKE_UV.format(version=UV_VERSION, python=python))
    program(folder / "python", FAKE_PYTHON.format(bin=folder))
    (folder / "behave").write_text("")
    return tmp_path


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def start(checkout: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    defaults = ("--root", str(checkout), "--min-free-gb", "0")
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "CC", "CXX")}
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / "set_up.py"), *defaults, *arguments],
        env={**kept, "XDG_CACHE_HOME": str(checkout / "user-cache"), **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def set_up(checkout: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """(exit status, standard output, standard error)."""
    process = start(checkout, *arguments, **environment)
    said, errors = process.communicate(timeout=60)
    return process.returncode, said, errors


def behave(checkout: Path, shell: str) -> None:
    (checkout / ".setup" / "uv" / "bin" / "behave").write_text(shell + "\n")


def calls(checkout: Path) -> list[str]:
    file = checkout / ".setup" / "uv" / "bin" / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return [" ".join(line.split()[:2]) for line in lines if line not in ("--version", "cache dir")]


def wait_for(path: Path) -> None:
    end_s = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end_s, f"{path} did not appear"
        time.sleep(0.05)


def test_a_second_run_has_nothing_to_do(checkout: Path) -> None:
    status, said, errors = set_up(checkout)
    assert (status, errors) == (0, "") and "ready after" in said
    assert calls(checkout) == ["venv --quiet", "pip sync", "pip install"]
    assert set_up(checkout) == (0, "setup: .venv is ready\n", "")
    assert calls(checkout) == []


def test_a_compiled_mmcv_is_kept_for_the_next_checkout(checkout: Path) -> None:
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    uv = checkout / ".setup" / "uv" / "bin"
    built = uv / "cache" / "sdists-v10" / "pypi" / "onedl-mmcv" / "2.3.6" / "revision" / "build"
    built.mkdir(parents=True)
    (built / f"onedl_mmcv-2.3.6-{tag}-{tag}-linux_x86_64.whl").write_text("wheel")
    (checkout / "requirements.lock").write_text("torch==2.11.0\n")
    assert set_up(checkout)[0] == 0
    (kept,) = (checkout / "user-cache" / "segsweep" / "wheels" / "torch-2.11.0").iterdir()
    assert kept.read_text() == "wheel"
    assert "--find-links" not in (uv / "calls").read_text()

    (uv / "calls").unlink()
    (checkout / ".venv" / "set-up-done").unlink()
    assert set_up(checkout)[0] == 0
    assert f"--find-links {kept.parent}" in (uv / "calls").read_text()


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_lock_or_project_file_is_installed(checkout: Path, name: str) -> None:
    set_up(checkout)
    calls(checkout)
    (checkout / name).write_text("changed")
    assert set_up(checkout)[0] == 0
    assert calls(checkout) == ["pip sync", "pip install"]


def test_a_moved_checkout_is_set_up_again(checkout: Path) -> None:
    set_up(checkout)
    moved = checkout.with_name(checkout.name + "-moved")
    checkout.rename(moved)
    program(moved / ".setup/uv/bin/python", FAKE_PYTHON.format(bin=moved / ".setup/uv/bin"))
    calls(moved)
    assert "ready after" in set_up(moved)[1]
    assert "pip sync" in calls(moved)


def test_ctrl_c_ends_what_runs_and_the_next_run_starts_a_clean_environment(checkout: Path) -> None:
    behave(checkout, 'sleep 600 & echo $! > "$here/compiler"; wait')
    process = start(checkout)
    wait_for(checkout / ".setup" / "uv" / "bin" / "compiler")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.strip().splitlines() == [
        "setup: interrupted; run the same command again (downloads are kept, a cut compile starts over)"
    ]
    compiler = Path("/proc") / (checkout / ".setup/uv/bin/compiler").read_text().strip() / "stat"
    assert not compiler.exists() or compiler.read_text().split()[2] == "Z"
    behave(checkout, "")
    calls(checkout)
    assert set_up(checkout)[0] == 0
    assert calls(checkout) == ["venv --quiet", "pip sync", "pip install"]


def test_a_set_up_waits_for_the_steps_of_a_killed_one(checkout: Path) -> None:
    behave(checkout, 'touch "$here/started"; while [ ! -e "$here/go-on" ]; do sleep 0.1; done')
    killed = start(checkout)
    folder = checkout / ".setup" / "uv" / "bin"
    wait_for(folder / "started")
    killed.kill()
    killed.communicate()
    second = start(checkout)
    assert second.stdout is not None
    assert second.stdout.readline() == "setup: waiting for another set-up of this folder, 0 s so far\n"
    (folder / "go-on").touch()
    said, _ = second.communicate(timeout=30)
    assert second.returncode == 0 and "ready after" in said


def test_a_waiting_person_hears_what_is_compiled_and_for_how_long(checkout: Path) -> None:
    behave(checkout, "echo '   Building onedl-mmcv==2.3.6'; sleep 1; echo '      Built onedl-mmcv==2.3.6'")
    _, said, _ = set_up(checkout, "--heartbeat-s", "0.7")
    assert "compiling mmcv's C++ operators: 1 s (usually 6 to 9 min on 2 cores); 1 s in all" in said


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("error: No space left on device (os error 28)", "the disk is full. Free about 12 GB"),
        ("  cause: dns error", "the package index could not be reached. Check the network"),
        ("mmcv.cpp:1: fatal error: Python.h: No such file or directory", "headers are missing. Debian, Ubuntu: apt"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "ran out of memory. Compile one file at a time"),
        ("OSError: CUDA_HOME environment variable is not set.", "has a GPU, but not the CUDA compiler (nvcc)"),
        ("there is no version of torch==2.11.0", "the package index does not have a pinned version"),
    ],
)
def test_a_known_failure_is_one_line_with_its_cure(checkout: Path, said: str, expected: str) -> None:
    behave(checkout, f"echo '{said}'; exit 1")
    status, _, errors = set_up(checkout)
    assert status == 2
    assert len(errors.splitlines()) == 1 and expected in errors and ".setup/setup.log" in errors


def test_an_unknown_failure_shows_the_end_of_the_log(checkout: Path) -> None:
    behave(checkout, "for i in $(seq 100); do echo line $i; done; exit 1")
    status, _, errors = set_up(checkout)
    assert status == 2
    lines = errors.splitlines()
    assert lines[0] == "line 86" and lines[14] == "line 100"
    assert lines[15].startswith("setup: installing requirements.lock failed; the lines above say why")


def test_mmcv_without_operators_is_installed_again_then_built_again(checkout: Path) -> None:
    no_ops = checkout / ".setup" / "uv" / "bin" / "no-ops"
    no_ops.touch()
    behave(checkout, 'if grep -q "cache clean" "$here/calls"; then rm -f "$here/no-ops"; fi')
    assert set_up(checkout)[0] == 0
    assert calls(checkout)[3:] == ["pip uninstall", "pip sync", "cache clean", "pip uninstall", "pip sync"]


def test_mmcv_that_stays_without_operators_is_one_line_with_the_cure(checkout: Path) -> None:
    (checkout / ".setup" / "uv" / "bin" / "no-ops").touch()
    status, _, errors = set_up(checkout)
    assert status == 2 and len(errors.splitlines()) == 1
    assert (
        "without usable C++ operators (ImportError: _ext.so: undefined symbol: _ZN2at6Tensor). Check that g++" in errors
    )
    assert not (checkout / ".venv" / "set-up-done").exists()


@pytest.mark.parametrize(("there", "missing"), [([], "gcc"), (["gcc"], "g++")])
def test_a_missing_compiler_is_one_line_with_the_cure(
    checkout: Path, tmp_path: Path, there: list[str], missing: str
) -> None:
    (tmp_path / "bin").mkdir()
    for name in there:
        program(tmp_path / "bin" / name, "#!/bin/sh\n")
    status, said, errors = set_up(checkout, PATH=str(tmp_path / "bin"))
    assert (status, said, len(errors.splitlines())) == (2, "", 1)
    assert f"expected the compiler {missing} on PATH" in errors and "apt install gcc g++" in errors
    assert calls(checkout) == []


def test_a_ready_wheel_of_mmcv_needs_no_compiler(checkout: Path, tmp_path: Path) -> None:
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / f"onedl_mmcv-2.3.6-{tag}-{tag}-linux_x86_64.whl").touch()
    assert set_up(checkout, CC="no-such-gcc", UV_FIND_LINKS="wheels")[0] == 0


def test_missing_headers_are_one_line_with_the_cure(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import set_up as script

    monkeypatch.setattr(script.sysconfig, "get_path", lambda name: "/no/include")
    assert script.main(["--root", str(checkout), "--min-free-gb", "0"]) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and "/no/include/Python.h is not there. Debian, Ubuntu: apt install" in errors


def test_an_unsupported_python_is_one_line_with_the_cure(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import set_up as script

    monkeypatch.setattr(script, "SUPPORTED", ((3, 1),))
    assert script.main(["--root", str(checkout)]) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and "make setup PYTHON=/path/to/python3.11" in errors


def test_a_full_disk_is_one_line_with_the_cure(checkout: Path) -> None:
    status, _, errors = set_up(checkout, "--min-free-gb", "1e9")
    assert status == 2 and len(errors.splitlines()) == 1
    assert "expected 1e+09 GB of free disk" in errors and "MIN_FREE_GB=2" in errors


SUPPORTED = "#!/bin/sh\necho 'True {}'\n"
WITHOUT_HEADERS = "#!/bin/sh\necho 'False {}'\n"
TOO_NEW = "#!/bin/sh\necho 3.13 >&2\nexit 1\n"
DEAD_SHIM = "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n"


def find_python(tmp_path: Path, pythons: dict[str, str], **environment: str) -> "subprocess.CompletedProcess[str]":
    for name, text in pythons.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        program(tmp_path / name, text.format(name))
    folders = ":".join(str(tmp_path / folder) for folder in ("first", "second"))
    command = ["/bin/sh", str(SCRIPTS / "find_python.sh")]
    return subprocess.run(command, env={"PATH": folders, **environment}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("pythons", "found"),
    [
        ({"first/python3": SUPPORTED, "second/python3.11": SUPPORTED}, "first/python3"),
        ({"first/python3": TOO_NEW, "second/python3.11": SUPPORTED}, "second/python3.11"),
        ({"first/python3.12": DEAD_SHIM, "second/python3.12": SUPPORTED}, "second/python3.12"),
        ({"first/python3": WITHOUT_HEADERS, "second/python3": SUPPORTED}, "second/python3"),
        ({"first/python3": WITHOUT_HEADERS, "second/python3.11": TOO_NEW}, "first/python3"),
    ],
)
def test_the_first_python_that_works_is_found(tmp_path: Path, pythons: dict[str, str], found: str) -> None:
    done = find_python(tmp_path, pythons)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{found}\n", "")


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [
        ({}, "but no python3 is on PATH"),
        (
            {"first/python3": TOO_NEW, "first/python3.12": DEAD_SHIM},
            "python3 is 3.13, {}/first/python3.12 does not start",
        ),
    ],
)
def test_no_usable_python_is_one_line_with_the_cure(tmp_path: Path, pythons: dict[str, str], expected: str) -> None:
    done = find_python(tmp_path, pythons)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert expected.format(tmp_path) in done.stderr and "make setup PYTHON=" in done.stderr


def test_a_named_python_is_the_only_candidate(tmp_path: Path) -> None:
    program(tmp_path / "mine", TOO_NEW)
    done = find_python(tmp_path, {"first/python3": SUPPORTED}, PYTHON=str(tmp_path / "mine"))
    assert done.returncode == 2 and f"{tmp_path}/mine is 3.13" in done.stderr
