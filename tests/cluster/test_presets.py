"""The `ray up` presets pass Ray's own schema and our rules, and each rule catches what it is for."""

import gzip
import itertools
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config

from tests.cluster.preset_checks import CLOUDS, CLUSTER, SIZES, azure, complaints, load, secrets_in

AUTOSCALER = Path(ray.__file__).parent / "autoscaler"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_preset_keeps_the_rules(cloud: str) -> None:
    assert complaints(load(cloud)) == []


ANY_CLOUD = [
    ("max_workers: 8  #", "max_workers: many  #", "Ray refuses it"),
    ("head_node_type: head", "head_node_type: hat", "Ray refuses it"),
    ("idle_timeout_minutes: 10", "idle_timeout: 10", "Ray refuses it"),
    ("{CPU: 8, GPU: 1}", "{CPU: 8, GPU: 1.5}", "Ray refuses it"),
    ("{CPU: 8, GPU: 1}", "{CPU: 4, GPU: 1}", "t4: the machine has 8 CPUs and 1 GPUs"),
    ("idle_timeout_minutes: 10", "idle_timeout_minutes: 600", "idle machines stay"),
    ("resources: {CPU: 0, GPU: 0}", "resources: {CPU: 3, GPU: 0}", "head: trials may run there"),
    ("    max_workers: 0", "    max_workers: 1", "head: may become a worker"),
    ("docker: &gpu {worker_run_options: [--gpus all]}", "docker: &gpu {}", "t4: the container's GPUs"),
    ("    - --env RAY_AUTH_MODE=token  #", "    - --env RAY_AUTH_MODE=disabled  #", "Ray runs without a token"),
    ("  ~/.ray/auth_token: ~/.ray/auth_token", "  ~/.ray/other: ~/.ray/other", "the token is not mounted"),
    ("  - &has_token test -r", "  - &has_token test -e", "worker: starts without looking for the token"),
    ("chmod 640 auth_token", "chmod 640 token", "the container's user can't read the token"),
    ("cluster_name: segsweep", "cluster_name: mine", "the container's user can't read the token"),
    ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "the dashboard is open"),
    (" --dashboard-host=127.0.0.1", "", "the dashboard is open"),
    ("--port=6379", "--port=6379 --ray-client-server-port=10001", "the client's port is open"),
    ("    - --volume /shared:/shared", "    - --volume /shared:/mnt", "the container lacks /shared"),
    ("  - *mount_shared", "  - 'true'", "/shared is not mounted"),
    ("hard,", "soft,", "/shared is not NFS that waits"),
    ("image: &image segsweep:0.1.0  # edit: where", "image: &image segsweep:0.1.0  # where", "image is not marked"),
    ("  image: *image", "  image: segsweep:0.1.0", "nothing refers to image"),
    ("cluster_name: segsweep", "cluster_name: segsweep  # edit: a name", "lines to edit"),
    ("    - --ulimit", "    - --env RAY_AUTH_TOKEN=f00dfeedf00dfeed\n    - --ulimit", "looks like a secret"),
]


@pytest.mark.parametrize(("cloud", "rule"), list(zip(itertools.cycle(CLOUDS), ANY_CLOUD, strict=False)))
def test_each_rule_catches_what_it_is_for(cloud: str, rule: tuple[str, str, str]) -> None:
    expect_complaint(cloud, *rule)


@pytest.mark.parametrize(
    ("cloud", "ours", "broken", "complaint"),
    [
        ("aws", "      SecurityGroupIds: [*security_group]\n", "", "t4: Ray would choose the network"),
        ("aws", "[*security_group]", "[sg-1, *security_group]", "t4: Ray would choose the network"),
        ("aws", "  type: aws\n", "  type: aws\n  security_group: {GroupName: x}\n", "Ray would make a security group"),
        ("aws", "&spot {MarketType: spot}", "&spot {MarketType: block}", "a10g: not on spot"),
        ("aws", "InstanceType: g5.2xlarge", "InstanceType: g5.12xlarge", "a10g: the machine has 48 CPUs"),
        ("aws", "InstanceType: m6i.xlarge", "InstanceType: g5.2xlarge", "head: has a GPU"),
        ("gcp", "        - subnetwork: *subnetwork\n", "        - network: default\n", "t4: Ray would choose"),
        ("gcp", "provisioningModel: SPOT", "provisioningModel: STANDARD", "l4: not on spot"),
        ("gcp", "acceleratorCount: 1", "acceleratorCount: 2", "t4: the machine has 8 CPUs and 2 GPUs"),
        ("azure", "  unique_id: shut", "  note: shut", "t4: Ray would choose the network"),
        ("azure", "priority: Spot", "priority: Regular", "a100: not on spot"),
        (
            "azure",
            "        vmSize: Standard_D4s_v5",
            "        priority: Spot\n        vmSize: Standard_D4s_v5",
            "head: on",
        ),
    ],
)
def test_each_rule_of_a_cloud_catches_what_it_is_for(cloud: str, ours: str, broken: str, complaint: str) -> None:
    expect_complaint(cloud, ours, broken, complaint)


def test_presets_without_several_gpu_kinds_are_caught() -> None:
    config = yaml.safe_load(load("aws"))
    config["available_node_types"] = {name: config["available_node_types"][name] for name in ("head", "cpu", "t4")}
    assert "fewer than two kinds of GPU machines" in complaints(yaml.safe_dump(config, sort_keys=False))


def expect_complaint(cloud: str, ours: str, broken: str, complaint: str) -> None:
    text = load(cloud)
    assert ours in text
    found = complaints(text.replace(ours, broken))
    assert any(complaint in line for line in found), found


def test_sizes_of_ec2_machines_are_those_that_ec2_describes() -> None:
    with gzip.open(str(files("moto.ec2") / "resources" / "instance_types.json.gz")) as file:
        described: dict[str, Any] = json.load(file)
    ours = {name: size for name, size in SIZES.items() if name in described}
    assert len(ours) == 5
    for name, (cpus, gpus) in ours.items():
        kinds = described[name].get("GpuInfo", {}).get("Gpus", [])
        assert (described[name]["VCpuInfo"]["DefaultVCpus"], sum(kind["Count"] for kind in kinds)) == (cpus, gpus)


def test_azure_machines_ask_for_what_rays_template_takes() -> None:
    template = json.loads((AUTOSCALER / "_private" / "_azure" / "azure-vm-template.json").read_text())
    for name, kind in prepare_config(yaml.safe_load(load("azure")))["available_node_types"].items():
        assert set(azure(kind["node_config"])) <= {*template["parameters"], "availability_zone"}, name


def test_azures_sdk_is_what_ray_names() -> None:
    defaults = yaml.safe_load((AUTOSCALER / "azure" / "defaults.yaml").read_text())
    named = {word for word in defaults["head_setup_commands"][0].split() if "==" in word}
    assert len(named) == 8
    assert named <= set((CLUSTER / "sdk" / "azure.txt").read_text().split())


def test_azure_subnet_of_the_readme_is_the_one_that_ray_keeps() -> None:
    """Ray's own network is open (the reason for ours), and is named after the cluster and its unique id."""
    template = json.loads((AUTOSCALER / "_private" / "_azure" / "azure-config-template.json").read_text())
    groups = [part for part in template["resources"] if part["type"] == "Microsoft.Network/networkSecurityGroups"]
    rule = groups[0]["properties"]["securityRules"][0]["properties"]
    assert (rule["destinationPortRange"], rule["sourceAddressPrefix"]) == ("22", "*")
    assert template["variables"]["subnetName"] == "[concat('ray-', parameters('clusterId'), '-subnet')]"
    assert template["variables"]["vnetName"] == "[concat('ray-', parameters('clusterId'), '-vnet')]"
    config = yaml.safe_load(load("azure"))
    cluster = f"ray-{config['cluster_name']}-{config['provider']['unique_id']}"
    readme = (CLUSTER / "README.md").read_text()
    for expected in (f"{cluster}-vnet", f"{cluster}-subnet", config["provider"]["subnet_mask"]):
        assert expected in readme


@pytest.mark.parametrize(
    "text",
    [
        "PGPASSWORD=correcthorsebattery",
        "token: 5f0c6d1e2a7b4f8899aabbccddeeff00",
        "aws: AKIAABCDEFGHIJKLMNOP",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "value 0123456789abcdef0123456789abcdef",
    ],
)
def test_secrets_are_seen(text: str) -> None:
    assert secrets_in(text)


def test_no_file_of_the_folder_holds_a_secret() -> None:
    texts = [path for path in sorted(CLUSTER.rglob("*")) if path.is_file() and "secrets" not in path.parts]
    assert len(texts) > 10
    assert {path.name: found for path in texts if (found := secrets_in(path.read_text(encoding="utf-8")))} == {}


def test_readme_goes_from_nothing_to_a_sweep_in_ten_commands() -> None:
    commands = (CLUSTER / "README.md").read_text(encoding="utf-8").split("```sh\n")[1].split("\n```")[0].splitlines()
    assert len(commands) == 10
    wanted = [
        "get-auth-token",
        "ray up",
        "/shared",
        "mlflow",
        "up.sh",
        "dashboard",
        "token",
        "job submit",
        "5000",
        "down",
    ]
    assert [word for word, command in zip(wanted, commands, strict=True) if word not in command] == []
    assert "0.0.0.0" not in (CLUSTER / "README.md").read_text(encoding="utf-8")
