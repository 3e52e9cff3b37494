"""The cluster on which wrong input and faults are tried: one for all tests, since `ray up` is the slow part."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.lab import ROOT, Lab, missing

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

pytest.register_assert_rewrite("tests.cluster.checks")  # so that what differs is shown

STORAGE_BYTES = 600 << 20


@pytest.fixture(scope="session")
def cluster(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Cluster]":
    """Three hosts with Ray up, an MLflow server, real photos and a sweep file on their storage."""
    if lacking := missing():
        pytest.skip(f"no lab can be made here; missing: {', '.join(lacking)}")
    from tests.cluster.cluster import Cluster  # seconds of imports, which the lab's own tests do without

    with Lab([ROOT], STORAGE_BYTES) as lab:
        made = Cluster(lab, tmp_path_factory.mktemp("logs"))
        made.start_mlflow()
        made.write_data(real_data)
        made.bring_up(lab.hosts[0], lab.hosts[1:])
        yield made
    assert lab.processes_left() == [] and lab.namespaces_left() == []
