"""Addresses of MLflow stores."""

from pathlib import Path

import pytest

from segdata.errors import InputError
from segtrack import artifact_location, resolve_uri


@pytest.mark.parametrize(
    ("uri", "resolved"),
    [
        ("sqlite:///mlflow.db", "sqlite:////sweeps/mlflow.db"),
        ("sqlite:///sub/mlflow.db", "sqlite:////sweeps/sub/mlflow.db"),
        ("sqlite:////abs/mlflow.db", "sqlite:////abs/mlflow.db"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("postgresql://user@host/db", "postgresql://user@host/db"),
    ],
)
def test_addresses(uri: str, resolved: str) -> None:
    assert resolve_uri(uri, Path("/sweeps")) == resolved


def test_an_address_of_no_known_kind() -> None:
    with pytest.raises(InputError, match="tracking.uri: expected sqlite:///FILE or .*, but got 'ftp://x'"):
        resolve_uri("ftp://x", Path("/sweeps"))


def test_artifacts_lie_beside_a_database_and_where_a_server_says() -> None:
    assert artifact_location("sqlite:////sweeps/mlflow.db", "nuclei") == "file:///sweeps/mlartifacts/nuclei"
    assert artifact_location("http://localhost:5000", "nuclei") is None
