"""What a trial gets of a node, and the refusal of what no node could ever give."""

import pytest

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
