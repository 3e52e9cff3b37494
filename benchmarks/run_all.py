"""Runs every benchmark beside it and writes docs/benchmarks.json and docs/benchmarks.md. `make bench` calls it."""

import argparse
import json
import os
import platform
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LAB = HERE.parent / "tests" / "cluster" / "lab.py"
ON_LAB = "lab_scale.py"
COLUMNS = ("name", "peer", "ours", "theirs", "unit", "ratio", "target")
TIMEOUT_S = 3600


def lacking(script: Path) -> list[str]:
    """Returns what this machine lacks for a benchmark; one makes hosts of namespaces, which not every machine can."""
    if script.name != ON_LAB:
        return []
    found: list[str] = runpy.run_path(str(LAB))["missing"]()
    return found


def run_one(script: Path, more: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of one benchmark; RuntimeError when it fails or prints something else."""
    command = [sys.executable, str(script), "--json", *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"{script.name} ended with exit status {done.returncode}")
    try:
        rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise RuntimeError(
            f'{script.name}: expected {{"rows": [...]}} on standard output, but got {error!r}'
        ) from error
    if missing := {column for row in rows for column in COLUMNS if column not in row}:
        raise RuntimeError(f"{script.name}: a row lacks {', '.join(sorted(missing))}")
    return rows


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}


def cell(value: object) -> str:
    """A number to three digits that count, anything else as it is."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)


def as_markdown(rows: Sequence[dict[str, Any]], where: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {where['cores']} cores, Python {where['python']}, {where['system']}.",
        "`ratio` says how many times better ours is than the peer in the same run, `target` what it should reach.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(cell(row[column]) for column in COLUMNS) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Replaces a file in one step."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1, with nothing written, when a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="each under 2 minutes")
    parser.add_argument("--scripts", type=Path, default=HERE, help="folder of the benchmarks")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs", help="folder of the two files")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    for script in sorted(set(options.scripts.glob("*.py")) - {Path(__file__).resolve()}):
        if lacks := lacking(script):
            print(f"bench: {script.name} is left out, this machine lacks {', '.join(lacks)}", file=sys.stderr)
            continue
        print(f"bench: {script.name}", file=sys.stderr, flush=True)
        try:
            rows += run_one(script, ["--quick"] if options.quick else [])
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failures.append(str(error))
    if failures:
        print("\n".join(f"bench: {failure}" for failure in failures), file=sys.stderr)
        return 1
    where = machine()
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "benchmarks.json", json.dumps({"rows": rows, "machine": where}, indent=2) + "\n")
    write(options.out / "benchmarks.md", as_markdown(rows, where))
    return 0


if __name__ == "__main__":
    sys.exit(main())
