"""Loops that numpy can't express, compiled by numba on their first call and kept on disk afterwards."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit

__all__ = ["compiled"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles a function of numpy arrays and numbers; it holds no lock of Python's while it runs.

    The machine code is kept beside the source, else in the user's cache. Where neither can be written, it is compiled
    in each process anew, which takes seconds. A compiled function may call compiled ones of its own file only: numba
    doesn't notice when another file changes.
    """
    try:
        kernel = njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # numba's word for: no place for a cache
        kernel = njit(function, nogil=True, error_model="numpy")
    return cast("Callable[Arguments, Result]", kernel)
