"""Both of Ray's autoscalers with nodes that are processes here: a sweep for machines that are not up is accepted, its
trials make the cluster grow, and idle nodes go again.

`ray.cluster_utils.AutoscalingCluster` is not used: it ends every Ray on the machine, and lacks a file in Ray's wheel.
"""

import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import ray
import yaml
from ray._private.authentication_test_utils import reset_auth_token_state
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.autoscaler.v2.utils import is_autoscaler_v2
from rich.console import Console

from search_spaces.space import Space
from segdata.errors import InputError
from segsweep import resources, tuning
from segsweep.clusters import waiting
from segsweep.clusters.nodes import alive_nodes
from segsweep.clusters.waiting import WaitingCallback
from segsweep.ray_session import ray_session
from segsweep.resources import cluster_nodes, trial_resources
from segsweep.resources_config import ResourcesConfig
from segsweep.run_folder import RunFolder

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

pytestmark = pytest.mark.slow

SOON_S = 120.0
V2 = {"RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID}  # as `ray up` starts a head


def config_of(address: str) -> dict[str, Any]:
    """A cluster file: a head without places, and up to two nodes with a GPU that is only said to be there."""
    return {
        "cluster_name": "test",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "external",  # by its name Ray would look for that file
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": address,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "gpu-worker": {"resources": {"CPU": 2, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
        "auth": {"ssh_user": "nobody"},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def until(true: Callable[[], bool], log: Path) -> None:
    end_s = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < end_s, log.read_text()
        time.sleep(0.2)


@dataclass(frozen=True)
class Growing:
    """A cluster that grows: which of Ray's autoscalers it has, where it is, its cluster file, what it prints."""

    version: str
    address: str
    file: Path
    log: Path


@pytest.fixture
def without_token() -> Iterator[None]:
    """This process talks to Ray without a token, whatever Ray has set and remembered for tests before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        reset_auth_token_state()
        yield
    reset_auth_token_state()


@pytest.fixture(params=["v1", "v2"])
def growing(request: pytest.FixtureRequest, without_token: None) -> Iterator[Growing]:
    """A head node with an autoscaler beside it; all its processes go at the end."""
    where = f"{ray.util.get_node_ip_address()}:{free_port()}"
    settings = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    settings |= {"RAY_enable_autoscaler_v2": "0"} if request.param == "v1" else V2
    with TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # a socket's path must be short
        config, log = Path(folder) / "cluster.yaml", Path(folder) / "log"
        config.write_text(yaml.safe_dump(config_of(where)))
        command = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--head",
            "--block",
            "--num-cpus=0",
            "--num-gpus=0",
        ]
        command += [f"--port={where.rpartition(':')[2]}", f"--autoscaling-config={config}", f"--temp-dir={folder}/r"]
        command += ["--include-dashboard=false", "--dashboard-agent-listen-port=0"]
        with log.open("w") as stream:
            head = psutil.Popen(command, env=os.environ | settings, stdout=stream, stderr=subprocess.STDOUT)
        try:
            until(lambda: "Ray runtime started" in log.read_text() or head.poll() is not None, log)
            assert head.poll() is None, log.read_text()
            yield Growing(request.param, where, config, log)
        finally:
            processes = [head, *head.children(recursive=True)]
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, 30)


def test_waiting_trials_make_the_cluster_grow_and_idle_nodes_go(
    growing: Growing,
    search: Callable[..., "Search"],
    space_of: Callable[..., Space],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stand_in(config: Mapping[str, Any], context: Any) -> None:
        import time

        import ray
        from ray import tune

        from trainables.trial_files import Outcome, TrialFiles

        files = TrialFiles(context.trials / f"{config['number']:04d}")
        files.directory.mkdir(parents=True, exist_ok=True)
        (files.directory / "node").write_text(ray.get_runtime_context().get_node_id())
        for epoch in (1, 2, 3):
            time.sleep(1)
            tune.report({"epoch": epoch, "segm_mAP": 0.5})
        files.write_outcome(Outcome("completed"))

    monkeypatch.setattr(tuning, "train_trial", stand_in)
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.5)
    monkeypatch.setattr(waiting, "LOOK_S", 0.1)
    said: list[str] = []
    asked = ResourcesConfig(cpu=2, gpu=1)
    with ray_session(growing.address, Console(file=io.StringIO())):
        (head,) = alive_nodes()
        assert is_autoscaler_v2(fetch_from_server=True) == (growing.version == "v2")
        monkeypatch.setattr(resources, "BOOTSTRAP_FILE", str(tmp_path / "none"))
        with pytest.raises(InputError, match="expected at most 0 GPUs a trial, the most that any node or"):
            trial_resources(asked, None, cluster_nodes())
        monkeypatch.setattr(resources, "BOOTSTRAP_FILE", str(growing.file))
        given = trial_resources(asked, None, cluster_nodes())
        assert (given.cpu, given.gpu, given.concurrent) == (2, 1, 2)
        one = search(space=space_of({"lr": {"float": [1e-5, 1e-1], "log": True}}), budget=4, sampler="random")
        context: Any = SimpleNamespace(trials=tmp_path / "trials", max_failures=0)
        callback = WaitingCallback(said.append, one.searcher.trial_placed)
        tuning.fit(one.searcher, context, given, RunFolder(tmp_path), callbacks=[callback])
        assert [(record.outcome, record.reason) for record in one.records()] == [("completed", "")] * 4
        nodes = {path.read_text() for path in (tmp_path / "trials").glob("*/node")}
        assert 1 <= len(nodes) <= 2 and head.id not in nodes
        assert said[0].startswith("waiting for a node with 2 CPUs and 1 GPU: ")
        assert any(line.endswith(("; the autoscaler is starting 1 x gpu-worker", "2 x gpu-worker")) for line in said)
        until(lambda: [node.id for node in alive_nodes()] == [head.id], growing.log)
