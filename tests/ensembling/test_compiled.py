"""Compiled loops work where numba finds no place to keep machine code, too."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from numba.extending import is_jitted

import ensembling
from ensembling.compiled import compiled
from ensembling.vote_kernels import winners


def test_kernels_are_kept_on_disk() -> None:
    assert is_jitted(winners)
    assert type(winners._cache).__name__ == "FunctionCache"  # type: ignore[attr-defined]


def test_a_function_without_a_file_is_compiled_without_a_cache() -> None:
    space: dict[str, object] = {"compiled": compiled, "np": np}
    exec("def double(values):\n    return values * 2\n", space)
    double = compiled(space["double"])  # type: ignore[arg-type]
    assert double(np.arange(3)).tolist() == [0, 2, 4]


def test_kernels_call_none_of_another_file() -> None:
    """numba keeps machine code until its own file changes, so what it took from another file would be out of date."""
    files = sorted(Path(ensembling.__file__).parent.glob("*_kernels.py"))
    assert len(files) >= 4
    for file in files:
        imported = re.findall(r"^from (ensembling\.\w+) import", file.read_text(), re.MULTILINE)
        assert imported == ["ensembling.compiled"], file.name


def test_packages_that_do_not_vote_do_not_load_numba() -> None:
    """It takes most of a second, which `segsweep check` need not wait for."""
    code = "import sys, segsweep.cli, segsweep.sweep_file; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent).returncode == 0
