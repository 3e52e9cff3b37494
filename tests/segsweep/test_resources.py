"""What a trial gets of a node, and the refusal of what no node could ever give."""

import pytest
from ray.tune.utils.object_cache import _ObjectCache

from segdata.errors import InputError
from segsweep.resources import TrialResources, this_machine, trial_resources
from segsweep.sweep_config import ResourcesConfig

AUTO = ResourcesConfig()
LAPTOP = [{"CPU": 2.0}]
WORKSTATION = [{"CPU": 16.0, "GPU": 1.0}]
SERVER = [{"CPU": 64.0, "GPU": 8.0}]
TWO_NODES = [{"CPU": 8.0}, {"CPU": 8.0}]
MIXED = [{"CPU": 32.0}, {"CPU": 4.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("wanted", "concurrent", "nodes", "expected"),
    [
        (AUTO, None, LAPTOP, (1, 0, 2)),
        (AUTO, 1, LAPTOP, (2, 0, 1)),
        (AUTO, 5, LAPTOP, (1, 0, 5)),  # they queue: Ray starts two at a time
        (AUTO, None, [{"CPU": 16.0}], (4, 0, 4)),
        (AUTO, None, WORKSTATION, (16, 1, 1)),
        (AUTO, 3, WORKSTATION, (5, 1 / 3, 3)),
        (AUTO, None, SERVER, (8, 1, 8)),
        (AUTO, 2, SERVER, (32, 1, 2)),
        (AUTO, 1, TWO_NODES, (8, 0, 1)),  # one trial can't span both nodes
        (AUTO, 3, TWO_NODES, (4, 0, 3)),  # 5 CPUs each would fit only once a node
        (AUTO, None, MIXED, (4, 1, 1)),  # the CPUs of the node without a GPU do not help
        (ResourcesConfig(cpu=4), None, WORKSTATION, (4, 1, 1)),
        (ResourcesConfig(cpu=4, gpu=0), None, WORKSTATION, (4, 0, 4)),
        (ResourcesConfig(cpu=2, gpu=0.5), None, WORKSTATION, (2, 0.5, 2)),
        (ResourcesConfig(gpu=0.25), None, WORKSTATION, (4, 0.25, 4)),
        (ResourcesConfig(gpu=2), None, SERVER, (16, 2, 4)),
        (ResourcesConfig(cpu=8), None, TWO_NODES, (8, 0, 2)),
        (ResourcesConfig(cpu=0.5), None, LAPTOP, (0.5, 0, 4)),
    ],
)
def test_resources(
    wanted: ResourcesConfig,
    concurrent: int | None,
    nodes: list[dict[str, float]],
    expected: tuple[float, float, int],
) -> None:
    assert trial_resources(wanted, concurrent, nodes) == TrialResources(*expected)


@pytest.mark.parametrize(
    ("wanted", "nodes", "message"),
    [
        (
            ResourcesConfig(gpu=1),
            LAPTOP,
            "resources.gpu: expected at most 0 GPUs a trial, the most that any node or node type has, but got 1",
        ),
        (ResourcesConfig(gpu=16), SERVER, "resources.gpu: expected at most 8 GPUs a trial.* but got 16"),
        (ResourcesConfig(cpu=12), TWO_NODES, "resources.cpu: expected at most 8 CPUs a trial.* but got 12"),
        (
            ResourcesConfig(cpu=16, gpu=1),
            MIXED,
            "resources: expected a node or node type with 16 CPUs and 1 GPUs together, but got none",
        ),
    ],
)
def test_what_no_node_could_supply_is_refused(
    wanted: ResourcesConfig, nodes: list[dict[str, float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        trial_resources(wanted, None, nodes)


def test_what_a_trial_computes_with() -> None:
    assert [TrialResources(cpu, 0, 1).threads for cpu in (0.5, 1, 8)] == [1, 1, 8]
    assert [TrialResources(cpu, 0, 1).loader_workers for cpu in (1, 2, 4, 16)] == [0, 0, 2, 4]
    assert TrialResources(2, 0, 1).request() == {"CPU": 2}
    assert TrialResources(2, 0.5, 1).request() == {"CPU": 2, "GPU": 0.5}


def test_this_machine_has_processors() -> None:
    (node,) = this_machine()
    assert node["CPU"] >= 1 and node["GPU"] >= 0


def test_hidden_gpus_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert this_machine()[0]["GPU"] == 0


BY_MODEL = ResourcesConfig.model_validate({"cpu": 2, "gpu": 0.5, "models": {"mask2former": {"gpu": 1}}})


def test_models_get_resources_of_their_own() -> None:
    found = trial_resources(BY_MODEL, None, SERVER)
    assert found == TrialResources(2, 0.5, 16, {"mask2former": TrialResources(2, 1, 16)})
    assert found.of("mask2former").gpu == 1 and found.of("mask-rcnn") is found
    assert found.least_cpu == 2
    assert TrialResources(2, 0, 1, {"fcn": TrialResources(1, 1, 1)}).least_cpu == 1


def test_tune_is_asked_by_model_and_hands_actors_on_between_equal_requests_only() -> None:
    resources = trial_resources(BY_MODEL, None, SERVER)
    placements = [
        resources.placement({"number": number, "trial": {"model": {"name": model}}})
        for number, model in enumerate(["mask-rcnn", "mask2former", "cascade-mask-rcnn"])
    ]
    assert [one.required_resources for one in placements] == [
        {"CPU": 2, "GPU": 0.5},
        {"CPU": 2, "GPU": 1},
        {"CPU": 2, "GPU": 0.5},
    ]
    assert placements[0] == placements[2] != placements[1]
    actors = _ObjectCache()  # Tune keeps its warm actors in one of these, by what their trials asked for
    actors.increase_max(placements[0])
    assert actors.cache_object(placements[0], "warm")
    assert not actors.has_cached_object(placements[1]) and actors.has_cached_object(placements[2])


@pytest.mark.parametrize(
    ("memory_gb", "gpus_gb", "gpu", "at_a_time"),
    [(24, [79.6], 1 / 3, 3), (24, [79.6, 47.5], 1, 2), (11, [79.6], 1 / 7, 7), (48, [48.0], 1, 1)],
)
def test_the_share_of_a_gpu_by_memory(memory_gb: float, gpus_gb: list[float], gpu: float, at_a_time: int) -> None:
    nodes = [{"CPU": 16.0, "GPU": float(len(gpus_gb))}]
    found = trial_resources(ResourcesConfig(gpu_memory_gb=memory_gb), None, nodes, gpus_gb)
    assert (found.gpu, found.concurrent) == (gpu, at_a_time)


@pytest.mark.parametrize(
    ("wanted", "gpus_gb", "message"),
    [
        (
            {"gpu_memory_gb": 24},
            [],
            "resources.gpu_memory_gb: expected a GPU whose memory nvidia-smi tells, but no node that is up has one. "
            "Write a share instead",
        ),
        (
            {"gpu_memory_gb": 24},
            [15.5],
            "resources.gpu_memory_gb: expected at most 15.5 GiB a trial, the memory of the smallest GPU, but got 24.",
        ),
        (
            {"gpu": 1, "models": {"mask2former": {"gpu_memory_gb": 81}}},
            [80],
            "resources.models.mask2former.gpu_memory_gb: expected at most 80.0 GiB a trial",
        ),
        (
            {"gpu": 1, "models": {"mask2former": {"gpu": 16}}},
            [],
            "resources.models.mask2former.gpu: expected at most 8 GPUs a trial, .* but got 16",
        ),
    ],
)
def test_what_no_gpu_holds_is_refused(wanted: dict[str, object], gpus_gb: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        trial_resources(ResourcesConfig.model_validate(wanted), None, SERVER, gpus_gb)
