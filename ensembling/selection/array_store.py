"""Arrays of bytes that are read again and again: in memory up to a limit, beyond it in a temporary file.

The file has no name, so that it is gone with the process whatever ends it; the system keeps of it in memory what fits.
Imports numpy and our errors.
"""

import shutil
import tempfile
import weakref
from typing import IO

import numpy as np
import numpy.typing as npt

from segdata.errors import InputError

__all__ = ["ArrayStore"]

Bytes = npt.NDArray[np.uint8]
_Place = tuple[int, tuple[int, ...]]


class ArrayStore:
    """Keeps arrays of bytes under whatever key.

    Args:
        memory_bytes: What may lie in memory.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._left = memory_bytes
        self._arrays: dict[object, Bytes] = {}
        self._places: dict[object, _Place] = {}
        self._file: IO[bytes] | None = None
        self._mapped: Bytes = np.zeros(0, dtype=np.uint8)
        self._size = 0

    @property
    def bytes_on_disk(self) -> int:
        """How large the file is."""
        return self._size

    def __contains__(self, key: object) -> bool:
        return key in self._arrays or key in self._places

    def put(self, key: object, array: Bytes) -> None:
        """Keeps an array.

        Raises:
            InputError: It must go to the file, and there is no room on the disk.
        """
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            self._arrays[key] = np.ascontiguousarray(array)
            return
        self._places[key] = (self._size, array.shape)
        self._append(np.ascontiguousarray(array))

    def get(self, key: object) -> Bytes:
        """Returns an array; not to be written to."""
        if key in self._arrays:
            return self._arrays[key]
        start, shape = self._places[key]
        if len(self._mapped) < self._size:
            assert self._file is not None
            # Copy on write, since a compiled loop is compiled anew for arrays that can't be written to.
            self._mapped = np.asarray(np.memmap(self._file, dtype=np.uint8, mode="c", shape=(self._size,)))
        return self._mapped[start : start + int(np.prod(shape))].reshape(shape)

    def _append(self, array: Bytes) -> None:
        try:
            if self._file is None:
                # It lives as long as we do.
                self._file = tempfile.TemporaryFile(prefix="segsweep-selection-", buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            self._file.seek(self._size)
            rest = array.data.cast("B")
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            free = shutil.disk_usage(tempfile.gettempdir()).free / 2**20
            raise InputError.of(
                f"expected room for the candidates' predictions, but got: {error.strerror} ({free:.0f} MB free)",
                where=tempfile.gettempdir(),
                cure="Free some, name another folder by TMPDIR, or store predictions at a larger stride.",
            ) from error
        self._size += array.nbytes
