"""Functions of the user's own, written FILE.py:FUNCTION: loading one, and saying in which line it failed.

Imports nothing of ours but the errors.
"""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from segdata.errors import InputError

__all__ = ["importing_from", "load_function", "place_of", "told"]


def load_function(
    file: Path, name: str, where: str, *, form: str, text: str | None = None, error: type[InputError] = InputError
) -> Callable[..., Any]:
    """Loads a function from a Python file, whose folder comes last among those that it may import from.

    Args:
        file: Where it lies, for messages too.
        name: Of the function.
        where: Names it in messages.
        form: What such a function looks like, for the cure.
        text: What the file holds; None = it is read now.
        error: What is raised.

    Raises:
        InputError: The file can't be run, or has no such function.
    """
    module = ModuleType(f"segsweep_user_{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # as an import does; dataclasses look there
    try:
        with importing_from(file.parent):
            exec(compile(file.read_bytes() if text is None else text, str(file), "exec"), module.__dict__)
    except (Exception, SystemExit) as failure:
        problem = f"expected a Python file that runs, but got {told(failure)}"
        raise error.of(problem, where=place_of(failure, file, where), cure="Correct it") from failure
    function = getattr(module, name, None)
    if not callable(function):
        problem = f"expected a function {name} in {file}, but got {'none' if function is None else repr(function)}"
        raise error.of(problem, where=where, cure=f"Write {form}")
    found: Callable[..., Any] = function
    return found


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Lets a folder's modules be imported, those of all other folders first."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def place_of(error: BaseException, file: Path, where: str) -> str:
    """Returns the file and line in which an error arose, or else `where`."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else where


def told(error: BaseException) -> str:
    """Returns an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
