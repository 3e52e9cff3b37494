"""Why a cluster does not let us in, in one line. Real clusters are in clusters/; Ray's own refusals are played here."""

import io
import os
import socket
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import ray
from ray._private.utils import check_version_info
from ray.exceptions import AuthenticationError
from rich.console import Console

from segdata.errors import InputError
from segsweep.ray_session import ray_session

CONSOLE = Console(file=io.StringIO())


@pytest.fixture
def address() -> Iterator[str]:
    """Something that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def refused_with(error: Exception, address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    def refuse(**settings: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(InputError) as refusal, ray_session(address, CONSOLE):
        pass
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_other_versions_are_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError) as told:  # as Ray words it
        check_version_info({"ray_version": "2.50.0", "python_version": "3.10.4"}, "node 10.0.0.7")
    said = refused_with(told.value, address, monkeypatch)
    assert said.startswith(
        f"{address}: expected the cluster's versions here, Ray 2.50.0 and Python 3.10.4, but got Ray "
    )
    assert f"Ray {ray.__version__} and Python 3." in said and "Run from the same image" in said


def test_a_token_that_cannot_be_read(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = AuthenticationError("RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty: /a. Ensure that")
    said = refused_with(error, address, monkeypatch)
    assert "expected a token that can be read, but got: RAY_AUTH_TOKEN_PATH is set but file cannot be opened" in said
    assert "copy it from the head node" in said


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "we came without a token: RAY_AUTH_MODE is not `token` here"),
        ({"RAY_AUTH_MODE": "token"}, "the token is that in ~/.ray/auth_token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/run/token"}, "the token is that in /run/token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "secret"}, "the token is that of RAY_AUTH_TOKEN)"),
    ],
)
def test_a_token_that_is_not_the_clusters(
    address: str, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: str
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    said = refused_with(ConnectionError("Failed to connect to Ray cluster"), address, monkeypatch)
    assert f"expected a Ray cluster that lets us in, but got none ({told}" in said and "secret" not in said


def test_what_ray_itself_refuses_is_told_in_its_words(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused_with(ValueError("Ray Client requires pip package `ray[client]`.\nMore"), address, monkeypatch)
    assert said.endswith("lets us in, but got: Ray Client requires pip package `ray[client]`. Check it.")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "127.0.0.1:1: expected a running Ray cluster, but nothing answers. Check --address."),
        ("somewhere", "--address: expected HOST:PORT of a Ray cluster, but got 'somewhere'"),
    ],
)
def test_an_address_where_nothing_listens(address: str, message: str) -> None:
    with pytest.raises(InputError, match=message), ray_session(address, CONSOLE):
        pass


@pytest.mark.parametrize(
    ("error", "expected", "shown"),
    [
        (ConnectionError("Failed to connect to Ray cluster"), InputError, ""),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
        (OSError("something else"), OSError, "1: InvalidAuthToken\n2: InvalidAuthToken\n"),
        (None, None, "1: InvalidAuthToken\n2: InvalidAuthToken\n"),
    ],
)
def test_what_rays_compiled_parts_write_is_not_shown_beside_a_refusal(
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: BaseException | None,
    expected: type[BaseException] | None,
    shown: str,
) -> None:
    def chatter(**settings: object) -> None:
        os.write(2, b"1: InvalidAuthToken\n2: InvalidAuthToken\n")
        if error is not None:
            raise error

    monkeypatch.setattr(ray, "init", chatter)
    with pytest.raises(expected) if expected else nullcontext(), ray_session(address, CONSOLE):
        os.write(2, b"later\n")
    assert capfd.readouterr().err == shown + ("" if error else "later\n")
