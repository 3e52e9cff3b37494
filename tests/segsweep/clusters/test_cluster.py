"""A real Ray cluster of several nodes on this machine: who is asked, where tasks land, and what holds a node back."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, remove_placement_group
from rich.console import Console

from search_spaces.space import Space
from segdata.errors import InputError
from segdata.synthetic import synthesize
from segsweep import tuning
from segsweep.clusters import late_nodes
from segsweep.clusters.late_nodes import LateNodes
from segsweep.clusters.needs import Needs, files_at
from segsweep.clusters.node_checks import check_nodes
from segsweep.clusters.nodes import ClusterNode, alive_nodes, ask_each, on_node
from segsweep.clusters.site import node_site
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources
from segsweep.run_folder import RunFolder

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

pytestmark = pytest.mark.slow

NOWHERE = Needs(modules=["nowhere"])
SOON_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without places, a node with two CPUs, one with two CPUs and a GPU that is only said to be there."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=2, num_gpus=0)
    made.add_node(num_cpus=2, num_gpus=1)
    try:
        with ray_session(made.address, Console(file=io.StringIO())):
            yield made
    finally:
        made.shutdown()


@pytest.fixture
def quiet() -> Console:
    return Console(file=io.StringIO(), width=1000)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def node_with(cluster: Cluster, **resources: float) -> ClusterNode:
    wanted = {"CPU": 2.0} | resources
    return next(
        node
        for node in alive_nodes()
        if node.resources.get("CPU", 0) == wanted["CPU"] and node.resources.get("GPU", 0) == wanted.get("GPU", 0)
    )


def until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.1)


def test_all_nodes_are_checked_and_nothing_is_left(cluster: Cluster, tmp_path: Path, quiet: Console) -> None:
    (tmp_path / "a.png").write_bytes(b"1234")
    needs = Needs([files_at("the images of train", tmp_path, ["a.png"])], modules=["numpy"])
    checked = check_nodes(tmp_path / "runs", needs, quiet)
    assert checked.ids == {node.id for node in alive_nodes()} and len(checked.ids) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert "checking 3 nodes of the cluster" in printed(quiet)


def test_a_node_that_lacks_something_is_named(cluster: Cluster, tmp_path: Path, quiet: Console) -> None:
    with pytest.raises(InputError) as refused:
        check_nodes(tmp_path / "runs", NOWHERE, quiet)
    assert all(f"node {node.name}: expected the module nowhere" in str(refused.value) for node in alive_nodes())
    assert len({node.name for node in alive_nodes()}) == 3
    assert not any(tmp_path.iterdir())


def test_a_check_asks_the_nodes_and_their_devices(cluster: Cluster, tmp_path: Path) -> None:
    """The model wants a GPU, which a node has and this machine has not."""
    synthesize("particles", tmp_path / "data", images=2, size=64)
    (tmp_path / "sweep.yaml").write_text(
        "{name: x, task: instance, budget: {trials: 1}, fixed: {model: detectors, init: none, epochs: 1},\n"
        "data: {train: &role {annotations: data/annotations.json, images: data/images}, val: *role}}\n"
    )
    command = [str(Path(sys.executable).with_name("segsweep")), "check", "sweep.yaml", "--address", cluster.address]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "checking 3 nodes of the cluster" in done.stdout and "sweep.yaml: fine." in done.stdout
    assert done.stdout.endswith(f"Next: segsweep run sweep.yaml --address {cluster.address}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "sweep.yaml"]


def test_a_node_that_does_not_answer_is_named(cluster: Cluster) -> None:
    silent = cluster.add_node(num_cpus=7)
    try:
        node = node_with(cluster, CPU=7.0)
        process = silent.all_processes["raylet"][0].process
        os.kill(process.pid, signal.SIGSTOP)
        answers = ask_each([node], lambda: os.getpid(), timeout_s=5.0)
        assert (answers.given, answers.lacking) == ({}, {node: "no answer within 5 s"})
    finally:
        os.kill(process.pid, signal.SIGCONT)
        cluster.remove_node(silent)


def test_work_without_a_gpu_goes_to_nodes_without_one_first(cluster: Cluster, tmp_path: Path) -> None:
    plain, with_gpu = node_with(cluster), node_with(cluster, GPU=1.0)

    def where(go: Path) -> str:
        while not go.exists():
            time.sleep(0.05)
        return str(ray.get_runtime_context().get_node_id())

    def places_of(count: int, go: Path) -> list[str]:
        tasks = [ray.remote(num_cpus=1)(where).remote(go) for _ in range(count)]
        until(lambda: ray.available_resources().get("CPU", 0) == 4 - count)
        go.touch()
        return ray.get(tasks)

    assert set(places_of(2, tmp_path / "two")) == {plain.id}
    until(lambda: ray.available_resources().get("CPU", 0) == 4)
    assert sorted(places_of(4, tmp_path / "four")) == sorted([plain.id, plain.id, with_gpu.id, with_gpu.id])


@pytest.mark.parametrize("trials", [3, 6, 7])
def test_shares_of_a_gpu_fit_as_often_as_was_reckoned(cluster: Cluster, trials: int) -> None:
    share = TrialResources(0.1, 1 / trials, trials).request()
    group, one_more = placement_group([share] * trials), placement_group([share])
    fits, too_much = group.wait(SOON_S), one_more.wait(3)
    remove_placement_group(group)
    remove_placement_group(one_more)
    assert fits and not too_much


def test_a_late_node_that_is_not_fit_gets_no_trial_until_it_is_mended(
    cluster: Cluster, tmp_path: Path, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = frozenset(node.id for node in alive_nodes())
    joined = cluster.add_node(num_cpus=3)
    try:
        late = node_with(cluster, CPU=3.0)
        busy = ray.remote(num_cpus=1)(lambda: time.sleep(3)).options(scheduling_strategy=on_node(late)).remote()
        watch = LateNodes(known, tmp_path, NOWHERE, 1, quiet)
        watch.look(alive_nodes())
        watch.look(alive_nodes())
        assert printed(quiet).count("has joined, but no trial will train there") == 1
        ray.get(busy)  # its place is taken as soon as it is free
        until(lambda: ray.available_resources().get("CPU", 0) == 4)
        group = placement_group([{"CPU": 1}] * 5)  # as Tune asks: five do not fit on the two others
        assert not group.wait(3)
        monkeypatch.setattr(late_nodes, "AGAIN_S", 0.0)
        watch.needs = Needs()
        watch.look(alive_nodes())
        assert f"node {late.name} is fit now" in printed(quiet) and late.id in watch.fit
        assert group.wait(SOON_S)
        remove_placement_group(group)
    finally:
        cluster.remove_node(joined)


def test_the_watch_over_nodes_that_join_ends_with_its_block_though_one_is_silent(
    cluster: Cluster, tmp_path: Path, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_nodes, "POLL_S", 0.1)
    there = {node.id for node in alive_nodes()}
    silent = cluster.add_node(num_cpus=7)
    process = silent.all_processes["raylet"][0].process
    try:
        node_with(cluster, CPU=7.0)
        os.kill(process.pid, signal.SIGSTOP)
        with LateNodes(frozenset(), tmp_path, Needs(), 1, quiet) as watch:
            until(lambda: watch.fit >= there)  # the silent one holds up no other
        assert not watch.thread.is_alive() and watch.fit == there and not watch.placeholders
        assert list(tmp_path.iterdir()) == [] and printed(quiet) == ""
    finally:
        os.kill(process.pid, signal.SIGCONT)
        cluster.remove_node(silent)


def test_a_trial_finds_out_where_it_is(cluster: Cluster, tmp_path: Path) -> None:
    plain, with_gpu = node_with(cluster), node_with(cluster, GPU=1.0)
    origin = tmp_path / "origin.json"
    origin.write_text("{}")
    site = node_site(frozenset([plain.id]), origin, NOWHERE)
    blind = node_site(frozenset(), origin, Needs())
    origin.write_text("of another sweep")
    task = ray.remote(num_cpus=0)(lambda one: one.problem())
    here, there = (task.options(scheduling_strategy=on_node(node)) for node in (plain, with_gpu))
    assert ray.get(here.remote(site)) is None
    assert "expected the sweep's folder on node" in ray.get(there.remote(site))
    origin.write_text("{}")
    assert "expected the module nowhere" in ray.get(there.remote(site))
    assert ray.get(there.remote(blind)) is None


def test_trials_of_a_model_get_its_resources_and_no_actor_of_another(
    cluster: Cluster,
    search: Callable[..., "Search"],
    space_of: Callable[..., Space],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stand_in(config: Mapping[str, Any], context: Any) -> None:
        import json
        import os

        from ray import tune

        from trainables.trial_files import Outcome, TrialFiles

        files = TrialFiles(context.trials / f"{config['number']:04d}")
        files.directory.mkdir(parents=True, exist_ok=True)
        given = tune.get_context().get_trial_resources().required_resources
        seen = {"model": config["trial"]["model"]["name"], "pid": os.getpid(), **given}
        (files.directory / "seen.json").write_text(json.dumps(seen))
        for epoch in (1, 2, 3):
            tune.report({"epoch": epoch, "segm_mAP": 0.5})
        files.write_outcome(Outcome("completed"))

    monkeypatch.setattr(tuning, "train_trial", stand_in)
    one = search(space=space_of({"model": {"choice": ["mask-rcnn", "ms-rcnn"]}}), budget=8, sampler="random")
    context: Any = SimpleNamespace(trials=tmp_path / "trials", max_failures=0)
    resources = TrialResources(1, 0, 2, {"ms-rcnn": TrialResources(2, 0.5, 2)})
    tuning.fit(one.searcher, context, resources, RunFolder(tmp_path))
    assert [record.outcome for record in one.records()] == ["completed"] * 8
    seen = [json.loads(path.read_text()) for path in (tmp_path / "trials").glob("*/seen.json")]
    by_model = {model: [entry for entry in seen if entry["model"] == model] for model in ("mask-rcnn", "ms-rcnn")}
    assert all((entry["CPU"], entry.get("GPU", 0)) == (1, 0) for entry in by_model["mask-rcnn"])
    assert all((entry["CPU"], entry.get("GPU", 0)) == (2, 0.5) for entry in by_model["ms-rcnn"])
    pids = {model: {entry["pid"] for entry in entries} for model, entries in by_model.items()}
    assert by_model["mask-rcnn"] and by_model["ms-rcnn"] and not pids["mask-rcnn"] & pids["ms-rcnn"]
