"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps shared annotations out of the user's cache; set before any fork server or Ray worker starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGSWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The acceptance data: real labelled images, which are not part of the repository."""
    named = os.environ.get("SEGSWEEP_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"acceptance data not found at {folder}; set SEGSWEEP_DATA")
    return folder
