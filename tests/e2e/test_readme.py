"""The README's commands, as a user would type them, in a copy of examples/: all but the long ones.

`segsweep run`, `best` and `ensemble` on real images take minutes; `test_nuclei_path.py` runs them on a subset.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONG = ("make ", "segsweep run", "segsweep best", "segsweep ensemble", "segsweep ui")


def command_blocks() -> list[list[str]]:
    """Returns the shell lines of each ```sh block of the README."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    return [[line for line in block.splitlines() if line.strip()] for block in blocks]


def test_the_readme_begins_with_its_two_commands():
    first = [line.split("#")[0].strip() for line in command_blocks()[0]]
    assert first == ["make demo", "make test"]


@pytest.mark.slow
def test_the_readmes_data_commands_lead_to_valid_sweeps(real_data, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    lines = [line for block in command_blocks()[1:] for line in block if not line.startswith(LONG)]
    assert sum(line.startswith("segsweep data import") for line in lines) == 4
    checks = [f"segsweep check {path.name}" for path in sorted((ROOT / "examples").glob("*.yaml"))]
    script = "set -eu\n" + "\n".join([*lines, *checks])
    environment = os.environ | {
        "SEGSWEEP_DATA": str(real_data),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONSAFEPATH": "1",
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in ("nuclei", "particles", "trash"):
        assert f"{name}.yaml: fine." in done.stdout
    assert "conflicting-duplicate" in done.stdout  # the bag that is labelled twice


def test_every_command_of_the_readme_exists():
    from typer.main import get_command

    from segsweep.cli import app

    root = get_command(app)
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"segsweep ((?:data |spaces )?[a-z-]+)", text)) - {"data", "spaces"}
    for words in sorted(named):
        command = root
        for word in words.split():
            command = command.commands.get(word)  # type: ignore[attr-defined]
            assert command is not None, f"the README names `segsweep {words}`"
