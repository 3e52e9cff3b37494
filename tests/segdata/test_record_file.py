"""Record files: what was written is read, and a file that was damaged or cut off says so."""

import io
from pathlib import Path

import numpy as np
import pytest

from segdata.errors import DatasetError
from segdata.record_file import RecordFile, write_records

RECORDS = [b"first", b"", b"third record"]


def written(path: Path) -> Path:
    with path.open("wb") as stream:
        arrays = {"sides": np.arange(6).reshape(2, 3), "none": np.zeros((2, 0))}
        write_records(stream, RECORDS, arrays, {"classes": ["a"]})
    return path


def test_records_arrays_and_description_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = RecordFile.open(written(tmp_path / "x.records"))
    assert [file.read(index) for index in range(len(file))] == RECORDS
    np.testing.assert_array_equal(file.arrays["sides"], [[0, 1, 2], [3, 4, 5]])
    assert file.arrays["none"].shape == (2, 0) and set(file.arrays) == {"sides", "none"}
    assert file.description == {"classes": ["a"]}
    file.verify()


def test_a_file_without_records_is_whole() -> None:
    memory = io.BytesIO()
    write_records(memory, [], {}, {})
    assert len(RecordFile(memory.getvalue(), "memory")) == 0


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.records")
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DatasetError, match="x.records: expected a record file as it was written, but got"):
            RecordFile.open(path)


def test_every_changed_byte_of_content_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "x.records")
    whole = path.read_bytes()
    end = sum(map(len, RECORDS))
    padding = set(range(end, 64)) | set(range(64 + 48, 192))  # between the parts, which begin at multiples of 64
    missed = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            RecordFile.open(path).verify()
        except DatasetError:
            continue
        missed.append(place)
    assert set(missed) <= padding


def test_a_file_cut_off_while_it_is_open_does_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "x.records"
    with path.open("wb") as stream:
        write_records(stream, [b"x" * 10_000] * 10, {}, {})
    file = RecordFile.open(path)
    with path.open("r+b") as stream:
        stream.truncate(100)
    with pytest.raises(DatasetError, match="but got a shorter one"):
        file.read(9)
