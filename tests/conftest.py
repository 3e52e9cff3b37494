"""Fixtures for all tests."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CONTROL_GROUPS = Path("/sys/fs/cgroup")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps shared annotations out of the user's cache; set before any fork server or Ray worker starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGSWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """An S3 server on loopback with a bucket named `bucket`; fsspec finds it by the environment."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield settings["AWS_ENDPOINT_URL"]
    server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB; only root can mount one."""
    folder = tmp_path / "0000"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_memory() -> Iterator[Callable[[int], Path]]:
    """Returns a maker of a control group of processes that may take so many bytes together; only root can make one."""
    made: list[Path] = []

    def make(limit_bytes: int) -> Path:
        folder = CONTROL_GROUPS / "memory"
        version_1 = folder.is_dir()
        group = (folder if version_1 else CONTROL_GROUPS) / "segsweep-test"
        try:
            group.mkdir()
            made.append(group)
            (group / ("memory.limit_in_bytes" if version_1 else "memory.max")).write_text(str(limit_bytes))
        except OSError as error:
            pytest.skip(f"no control group with little memory can be made here: {error}")
        return group

    yield make
    for group in made:
        group.rmdir()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The acceptance data: real labelled images, which are not part of the repository."""
    named = os.environ.get("SEGSWEEP_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"acceptance data not found at {folder}; set SEGSWEEP_DATA")
    return folder
