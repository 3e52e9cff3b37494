"""Bytes come back as they were put, from memory or from the file behind it, and a full disk is told."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ensembling.selection.array_store import ArrayStore
from segdata.errors import InputError


def test_what_memory_does_not_hold_lies_in_a_file() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        key: rng.integers(0, 256, shape).astype(np.uint8) for key, shape in enumerate([(3, 10, 10), (7,), (5, 6)])
    }
    store = ArrayStore(memory_bytes=320)
    for key, array in arrays.items():
        store.put(key, array)
        np.testing.assert_array_equal(store.get(key), array)  # more may be put after something was read
    assert store.bytes_on_disk == 30  # 300 + 7 fit
    for key, array in arrays.items():
        np.testing.assert_array_equal(store.get(key), array)
    assert 2 in store and 3 not in store


def test_the_file_is_gone_with_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = ArrayStore(0)
    store.put("a", np.ones(100, dtype=np.uint8))
    kept = store.get("a")
    assert list(tmp_path.iterdir()) == []
    del store
    assert kept.sum() == 100  # what is held is held on


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: io.FileIO("/dev/full", "r+"))
    store = ArrayStore(0)
    with pytest.raises(InputError, match="expected room for the candidates' predictions, but got: No space left"):
        store.put("a", np.ones(5000, dtype=np.uint8))
