"""What `ray up` may still start: read from the preset itself, as Ray hands it to the head."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config
from rich.console import Console

from segsweep import resources
from segsweep.clusters import absent_hosts
from segsweep.clusters.absent_hosts import tell_absent_hosts
from segsweep.nodes_to_come import hosts_to_come, nodes_to_come
from segsweep.resources import cluster_nodes

CLUSTER = Path(__file__).parents[2] / "cluster"
HEAD = {"CPU": 0.0, "GPU": 0.0, "node:__internal_head__": 1.0}
T4 = {"CPU": 8.0, "GPU": 1.0}


@pytest.fixture
def left_by_ray(tmp_path: Path) -> Path:
    """The file on the head of the AWS preset."""
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(yaml.safe_dump(prepare_config(yaml.safe_load((CLUSTER / "cluster.yaml").read_text()))))
    return file


def test_all_workers_of_the_preset_may_come_to_a_lone_head(left_by_ray: Path) -> None:
    come = nodes_to_come([HEAD], left_by_ray)
    assert come.count(T4) == 16  # eight of each kind with one GPU
    assert come.count({"CPU": 48.0, "GPU": 4.0}) == 2
    assert come.count({"CPU": 16.0, "GPU": 0.0}) == 2
    assert len(come) == 20


def test_who_is_up_does_not_come_again(left_by_ray: Path) -> None:
    assert nodes_to_come([HEAD, T4 | {"memory": 1e10}], left_by_ray).count(T4) == 14  # one less of each such kind
    assert nodes_to_come([HEAD | T4], left_by_ray).count(T4) == 16  # a head of their size is none of them


def test_machines_whose_size_is_not_known_are_not_counted(tmp_path: Path) -> None:
    file = tmp_path / "on_prem.yaml"
    file.write_text(yaml.safe_dump(prepare_config(yaml.safe_load((CLUSTER / "on_prem.yaml").read_text()))))
    assert nodes_to_come([HEAD], file) == []


HEAD_IP, *WORKER_IPS = "192.168.0.10", "192.168.0.11", "192.168.0.12"


@pytest.mark.parametrize(
    ("up", "min_workers", "absent"),
    [
        (WORKER_IPS, None, []),
        (WORKER_IPS[:1], None, WORKER_IPS[1:]),
        ([], None, WORKER_IPS),
        ([], 1, WORKER_IPS),
        (WORKER_IPS[1:], 1, []),  # as many as are to be kept
        ([], 0, []),
    ],
)
def test_machines_of_ones_own_that_should_be_up(
    tmp_path: Path, up: list[str], min_workers: int | None, absent: list[str]
) -> None:
    config = yaml.safe_load((CLUSTER / "on_prem.yaml").read_text())
    config |= {} if min_workers is None else {"min_workers": min_workers}
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(yaml.safe_dump(prepare_config(config)))
    assert hosts_to_come({HEAD_IP, *up}, file) == absent


def test_a_machine_may_be_named(tmp_path: Path) -> None:
    config = yaml.safe_load((CLUSTER / "on_prem.yaml").read_text())
    config["provider"]["worker_ips"] = ["localhost", "nowhere.invalid"]
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(yaml.safe_dump(prepare_config(config)))
    assert hosts_to_come({HEAD_IP, "127.0.0.1"}, file) == ["nowhere.invalid"]


def test_a_cloud_has_no_machines_of_ones_own(left_by_ray: Path) -> None:
    assert hosts_to_come({HEAD_IP}, left_by_ray) == []


@pytest.fixture(scope="module")
def lone_head() -> Iterator[None]:
    """A cluster of this machine alone, which is its head."""
    ray.init(num_cpus=1, num_gpus=0, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.mark.slow
def test_a_driver_on_the_head_counts_them(
    lone_head: None, left_by_ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "BOOTSTRAP_FILE", str(left_by_ray))
    nodes = cluster_nodes()
    monkeypatch.setattr(resources, "BOOTSTRAP_FILE", str(tmp_path / "none"))
    alone = cluster_nodes()
    assert len(alone) == 1 and alone[0]["CPU"] == 1
    assert nodes[1:].count(T4) == 16


@pytest.mark.slow
def test_a_driver_on_the_head_names_machines_that_are_not_up(
    lone_head: None, left_by_ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "on_prem.yaml"
    file.write_text(yaml.safe_dump(prepare_config(yaml.safe_load((CLUSTER / "on_prem.yaml").read_text()))))
    said = {}
    for left in (file, left_by_ray, tmp_path / "none"):
        console = Console(file=io.StringIO(), width=40)
        monkeypatch.setattr(absent_hosts, "BOOTSTRAP_FILE", str(left))
        tell_absent_hosts(console)
        said[left] = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.pop(file).startswith(
        "warning: 192.168.0.11, 192.168.0.12 of the cluster's worker_ips are not up; this goes on without, and a "
    )
    assert set(said.values()) == {""}
