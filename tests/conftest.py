"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The acceptance data: real labelled images, which are not part of the repository."""
    named = os.environ.get("SEGSWEEP_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"acceptance data not found at {folder}; set SEGSWEEP_DATA")
    return folder
