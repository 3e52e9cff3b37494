"""`segsweep doctor`: each row says how a part of the machine is, and what to do when it is not well."""

import http.server
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from segdata.file_sums import hash_files
from segdata.image_cache import copy_to_node
from segsweep import doctor as rows
from segsweep.cli.doctor import doctor
from segsweep.doctor import Check, Machine, run_checks
from segsweep.probes import ProbeError, probe

GB = 10**9


def machine(tmp_path: Path, uri: str = "sqlite:///mlflow.db") -> Machine:
    return Machine(storage=tmp_path / "runs", tracking_uri=uri)


def test_a_probe_that_segfaults_is_reported_by_its_signal() -> None:
    with pytest.raises(ProbeError, match="crashed with signal 11"):
        probe("import os; os.kill(os.getpid(), 11)")


def test_a_probe_that_raises_is_reported_by_its_last_line() -> None:
    with pytest.raises(ProbeError, match="^ImportError: _ext.so: undefined symbol: _ZN2at6Tensor$"):
        probe("raise ImportError('_ext.so: undefined symbol: _ZN2at6Tensor')")


def test_a_probe_that_hangs_is_ended() -> None:
    with pytest.raises(ProbeError, match=r"no answer within 0.5 s"):
        probe("import time; time.sleep(60)", timeout_s=0.5)


def test_a_probe_ignores_modules_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fractions.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert probe("import fractions, json; print('chatter'); print(json.dumps({'a': 1}))") == {"a": 1}


def test_mmcv_without_operators_is_one_line_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "OPS", "raise ModuleNotFoundError(\"No module named 'mmcv._ext'\")")
    check = rows.check_mmcv_ops(machine(tmp_path))
    assert check.status == "fail"
    assert check.found == "ModuleNotFoundError: No module named 'mmcv._ext'"
    assert "make clean setup" in check.cure


@pytest.mark.parametrize(
    ("cuda", "gpu", "status", "found"),
    [
        ("not available", False, "ok", "CPU only"),
        ("not available", True, "warn", "CPU only, but there is a GPU"),
        ("13.0", True, "ok", "CPU and CUDA 13.0"),
    ],
)
def test_mmcv_operators_should_fit_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: str, gpu: bool, status: str, found: str
) -> None:
    answer = json.dumps({"cuda": cuda, "gpu": gpu})
    monkeypatch.setattr(rows, "OPS", f"print('''{answer}''')")
    check = rows.check_mmcv_ops(machine(tmp_path))
    assert (check.status, check.found) == (status, found)


@pytest.mark.parametrize(
    ("torch_cuda", "driver_cuda", "names", "status", "found"),
    [
        ("13.0", 0, [], "ok", "none: training runs on CPU"),
        ("13.0", 12040, ["NVIDIA L4"], "fail", "torch needs CUDA 13.0, driver for CUDA 12.4"),
        (None, 13000, ["NVIDIA L4"], "fail", "this torch is built without CUDA"),
        ("13.0", 13000, ["NVIDIA L4", "NVIDIA L4"], "fail", "2 x NVIDIA L4, but torch cannot use it"),
    ],
)
def test_gpus_that_torch_cannot_use(
    monkeypatch: pytest.MonkeyPatch, torch_cuda: str | None, driver_cuda: int, names: list[str], status: str, found: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    check = rows.gpu_absence({"torch_cuda": torch_cuda, "driver_cuda": driver_cuda}, names)
    assert check.status == status and found in check.found
    assert bool(check.cure) == (status != "ok")


def test_hidden_gpus_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    check = rows.gpu_absence({"torch_cuda": "13.0", "driver_cuda": 13000}, ["NVIDIA L4"])
    assert check.status == "warn" and "hidden by CUDA_VISIBLE_DEVICES=''" in check.found


def test_gpus_are_counted_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"name": "NVIDIA L4", "memory": 24 * GB}
    answer = json.dumps({"torch_cuda": "13.0", "driver_cuda": 13000, "gpus": [gpu, gpu]})
    monkeypatch.setattr(rows, "GPU", f"print('''{answer}''')")
    check = rows.check_gpus(machine(tmp_path))
    assert check == Check("GPUs", "ok", "2 x NVIDIA L4 (24 GB); torch's CUDA 13.0, driver for CUDA 13.0")


def test_two_distributions_of_one_package_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows.metadata, "packages_distributions", lambda: {"mmcv": ["onedl-mmcv", "mmcv-lite"]})
    check = rows.check_models(machine(tmp_path))
    assert check.status == "fail" and check.found == "mmcv comes from mmcv-lite and onedl-mmcv"


def test_a_store_that_is_not_there_yet_leaves_no_file(tmp_path: Path) -> None:
    check = rows.check_tracking(machine(tmp_path, f"sqlite:///{tmp_path}/mlflow.db"))
    assert check.status == "ok" and check.found.endswith("will be created")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_can_be_written(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "mlflow.db").close()
    check = rows.check_tracking(machine(tmp_path, f"sqlite:///{tmp_path}/mlflow.db"))
    assert check.status == "ok" and check.found.endswith("can be written")


@pytest.mark.parametrize("broken", ["missing-folder/mlflow.db", "not-a-database.db"])
def test_a_store_that_cannot_be_written_fails(tmp_path: Path, broken: str) -> None:
    (tmp_path / "not-a-database.db").write_text("text, and enough of it that sqlite looks at its header" * 20)
    check = rows.check_tracking(machine(tmp_path, f"sqlite:///{tmp_path}/{broken}"))
    assert check.status == "fail" and broken in check.found and "writable folder" in check.cure


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    """Answers /<status>/health with that status, as an MLflow server does with 200."""

    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path.split("/")[1]) if self.path.endswith("/health") else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keeps the test's output clean."""

    with http.server.HTTPServer(("127.0.0.1", 0), Health) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(("answer", "status"), [(200, "ok"), (401, "warn"), (404, "fail")])
def test_a_tracking_server_is_asked(tmp_path: Path, server: http.server.HTTPServer, answer: int, status: str) -> None:
    check = rows.check_tracking(machine(tmp_path, f"http://127.0.0.1:{server.server_port}/{answer}"))
    assert check.status == status and str(answer) in check.found


def test_a_tracking_server_that_is_not_there_fails(tmp_path: Path) -> None:
    check = rows.check_tracking(machine(tmp_path, "http://127.0.0.1:1"))
    assert check.status == "fail" and "refused" in check.found and "Start the MLflow server" in check.cure


@pytest.mark.parametrize(("free_gb", "status"), [(1, "fail"), (10, "warn"), (100, "ok")])
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gb: int, status: str) -> None:
    usage = type("Usage", (), {"free": free_gb * GB})
    monkeypatch.setattr(rows.shutil, "disk_usage", lambda place: usage)
    check = rows.check_disk(machine(tmp_path))
    assert check.status == status and f"{free_gb} GB free" in check.found


def test_memory_counts_within_the_containers_limit(tmp_path: Path) -> None:
    assert rows.container_free(tmp_path) == float("inf")
    (tmp_path / "memory.current").write_text(f"{3 * GB}\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert rows.container_free(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text(f"{4 * GB}\n")
    assert rows.container_free(tmp_path) == 1 * GB


def test_what_copies_of_images_take_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    machine = Machine(storage=tmp_path, tracking_uri="")
    assert rows.check_image_cache(machine) == Check("image cache", "ok", "empty")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"a")
    copy_to_node(hash_files(tmp_path / "images", ["a.png"]))
    found = f"1 files, 0.0 GB; no trial running: rm -r {tmp_path}/cache/images"
    assert rows.check_image_cache(machine) == Check("image cache", "ok", found)


def run_command(monkeypatch: pytest.MonkeyPatch, *checks: Check, arguments: list[str]) -> tuple[int, str]:
    monkeypatch.setattr(rows, "CHECKS", tuple(lambda machine, check=check: check for check in checks))
    app = typer.Typer()
    app.command()(doctor)
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    return result.exit_code, result.stdout


WELL = Check("Python", "ok", "3.11")
AILING = Check("disk", "warn", "10 GB free for [runs]", "Free some of it, " * 6)
BROKEN = Check("mmcv ops", "fail", "undefined symbol", "make clean setup")


def test_the_table_fits_80_columns_and_shows_the_cures(monkeypatch: pytest.MonkeyPatch) -> None:
    exit_code, said = run_command(monkeypatch, WELL, AILING, BROKEN, arguments=[])
    assert exit_code == 1
    assert max(map(len, said.splitlines())) <= 80
    for part in ("10 GB free for [runs]", "mmcv ops", "fail", "cure: make clean setup"):
        assert part in said


def test_warnings_alone_are_no_failure_and_json_is_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    exit_code, said = run_command(monkeypatch, WELL, AILING, arguments=["--json"])
    assert exit_code == 0
    assert json.loads(said)["ok"] is True
    assert json.loads(said)["checks"][0] == {"name": "Python", "status": "ok", "found": "3.11", "cure": ""}


@pytest.mark.slow
def test_the_machine_that_runs_the_tests_is_well(tmp_path: Path) -> None:
    checks = run_checks(Machine(storage=tmp_path, tracking_uri=f"sqlite:///{tmp_path}/m.db", start_ray=True))
    assert [check for check in checks if check.status == "fail"] == []
    assert len(checks) == 11
