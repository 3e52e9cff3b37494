"""One file of many small records with arrays beside them, read through a memory map that all processes share.

The file holds the records one after another, then named arrays, then a JSON header, then a trailer that says where the
header lies: a file that was cut off has no trailer. Every part carries its CRC-32. Nothing in it is code or a pickle.
May import numpy and `segdata.errors` only.
"""

import json
import mmap
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from segdata.errors import DatasetError

__all__ = ["RecordFile", "write_records"]

_TRAILER = struct.Struct("<16sQQI")  # magic, where the header begins, its length, its CRC
_MAGIC = b"segsweep-record1"
_ALIGNMENT = 64  # bytes, of arrays
_ENDS, _CHECKS = "record_ends", "record_checks"

Array = npt.NDArray[Any]


def write_records(
    stream: BinaryIO, records: Iterable[bytes], arrays: Mapping[str, Array], description: Mapping[str, Any]
) -> None:
    """Writes a whole record file to a stream that stands at its begin.

    Args:
        stream: Open for writing.
        records: What `RecordFile.read` returns, in order.
        arrays: Beside the records, by name.
        description: Anything that is JSON.
    """
    ends, checks, size = [], [], 0
    for record in records:
        size += stream.write(record)
        ends.append(size)
        checks.append(zlib.crc32(record))
    own: dict[str, Array] = {_ENDS: np.array(ends, dtype=np.int64), _CHECKS: np.array(checks, dtype=np.uint32)}
    placed = {}
    for name, array in [*arrays.items(), *own.items()]:
        size += stream.write(b"\0" * (-size % _ALIGNMENT))
        content = np.ascontiguousarray(array).tobytes()
        placed[name] = [array.dtype.str, list(array.shape), size, zlib.crc32(content)]
        size += stream.write(content)
    header = json.dumps({"arrays": placed, "description": description}).encode()
    stream.write(header)
    stream.write(_TRAILER.pack(_MAGIC, size, len(header), zlib.crc32(header)))


class RecordFile:
    """The records and arrays of one file, read-only.

    Attributes:
        arrays: Views of the mapped file, by name.
        description: As it was written.
    """

    def __init__(self, content: mmap.mmap | bytes, where: object) -> None:
        """Takes the whole content; records are checked as they are read, all else now.

        Raises:
            DatasetError: It is not a whole record file.
        """
        self._content, self._where = content, where
        header = self._header()
        self.description: dict[str, Any] = header["description"]
        self.arrays = {name: self._array(*row) for name, row in header["arrays"].items()}
        self._ends, self._checks = self.arrays.pop(_ENDS), self.arrays.pop(_CHECKS)

    @classmethod
    def open(cls, path: Path) -> "RecordFile":
        """Maps a file.

        Raises:
            DatasetError: It is not a whole record file.
            OSError: It can't be opened.
        """
        with path.open("rb") as stream:
            try:
                content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:  # an empty file
                raise _damaged(path, str(error)) from error
        return cls(content, path)

    def __len__(self) -> int:
        return len(self._ends)

    def read(self, index: int) -> bytes:
        """Returns a record, 0 <= index < len.

        Raises:
            DatasetError: The file was damaged or cut off since it was written.
        """
        if isinstance(self._content, mmap.mmap) and self._content.size() < len(self._content):
            raise _damaged(self._where, "a shorter one")  # reading what was cut off would end this process by SIGBUS
        record = self._content[int(self._ends[index - 1]) if index else 0 : int(self._ends[index])]
        if zlib.crc32(record) != self._checks[index]:
            raise _damaged(self._where, f"another checksum of record {index}")
        return record

    def verify(self) -> None:
        """Reads every record.

        Raises:
            DatasetError: One is damaged.
        """
        for index in range(len(self)):
            self.read(index)

    def _header(self) -> dict[str, Any]:
        size = len(self._content)
        if size < _TRAILER.size:
            raise _damaged(self._where, f"{size} bytes")
        magic, begin, length, check = _TRAILER.unpack(self._content[-_TRAILER.size :])
        if magic != _MAGIC or begin + length + _TRAILER.size != size:
            raise _damaged(self._where, "one that was cut off, or another kind of file")
        header = self._content[begin : begin + length]
        if zlib.crc32(header) != check:
            raise _damaged(self._where, "another checksum of its header")
        content: dict[str, Any] = json.loads(header)
        return content

    def _array(self, dtype: str, shape: list[int], begin: int, check: int) -> Array:
        array = np.frombuffer(self._content, dtype, int(np.prod(shape)), begin)
        if zlib.crc32(array) != check:  # type: ignore[arg-type]  # numpy's stubs lack the buffer protocol
            raise _damaged(self._where, "another checksum of its arrays")
        return array.reshape(shape)


def _damaged(where: object, found: str) -> DatasetError:
    return DatasetError.of(
        f"expected a record file as it was written, but got {found}", where=where, cure="Remove it; it is built again."
    )
