"""`make bench`: the rows of all benchmarks in two files, or nothing written and the reason."""

import json
import os
import subprocess
import sys
from pathlib import Path

RUN_ALL = Path(__file__).resolve().parent.parent / "benchmarks" / "run_all.py"
ROW = {
    "name": "fusion",
    "peer": "ensemble-boxes",
    "ours": 2.0,
    "theirs": 8.0,
    "unit": "ms",
    "ratio": 4.0,
    "target": None,
}


def bench(tmp_path: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(RUN_ALL), "--scripts", str(tmp_path), "--out", str(tmp_path / "docs"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def benchmark(tmp_path: Path, name: str, body: str) -> None:
    (tmp_path / name).write_text(f"import json, sys\n{body}\n")


def test_the_rows_of_all_benchmarks_are_written(tmp_path: Path) -> None:
    benchmark(tmp_path, "b.py", f"print(json.dumps({{'rows': [{ROW!r}]}}))")
    benchmark(tmp_path, "a.py", f"print(json.dumps({{'rows': [{ROW!r} | {{'name': ' '.join(sys.argv[1:])}}]}}))")
    assert bench(tmp_path, "--quick").returncode == 0
    written = json.loads((tmp_path / "docs" / "benchmarks.json").read_text())
    assert [row["name"] for row in written["rows"]] == ["--json --quick", "fusion"]
    assert written["machine"]["cores"] >= 1
    table = (tmp_path / "docs" / "benchmarks.md").read_text().splitlines()
    assert table[-1] == "| fusion | ensemble-boxes | 2 | 8 | ms | 4 |  |"


def test_a_benchmark_that_fails_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    benchmark(tmp_path, "a.py", f"print(json.dumps({{'rows': [{ROW!r}]}}))")
    benchmark(tmp_path, "b.py", "sys.exit(3)")
    benchmark(tmp_path, "c.py", "print('no JSON')")
    benchmark(tmp_path, "d.py", "print(json.dumps({'rows': [{'name': 'x'}]}))")
    done = bench(tmp_path)
    assert done.returncode == 1
    for expected in ("b.py ended with exit status 3", 'c.py: expected {"rows": [...]}', "d.py: a row lacks ours, peer"):
        assert expected in done.stderr
    assert not (tmp_path / "docs").exists()


def test_the_benchmark_on_the_lab_is_left_out_where_there_can_be_none(tmp_path: Path) -> None:
    benchmark(tmp_path, "lab_scale.py", "sys.exit(2)")
    benchmark(tmp_path, "scale.py", f"print(json.dumps({{'rows': [{ROW!r}]}}))")
    done = bench(tmp_path, PATH=str(tmp_path))  # no tools there
    assert done.returncode == 0
    left_out, other = done.stderr.splitlines()
    assert left_out.startswith("bench: lab_scale.py is left out, this machine lacks ") and "unshare" in left_out
    assert other == "bench: scale.py"
    assert len(json.loads((tmp_path / "docs" / "benchmarks.json").read_text())["rows"]) == 1
