"""What every `ray up` preset must be, as a list of complaints: none for ours, one at least for each broken variant.

Sizes of machines are in a table below.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler._private.docker import docker_start_cmds
from ray.autoscaler._private.util import prepare_config, validate_config

__all__ = ["CLUSTER", "ROOT", "complaints", "load", "secrets_in"]

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
Config = dict[str, Any]
Size = tuple[int, int]  # virtual CPUs, GPUs

# EC2's are checked against moto's copy of DescribeInstanceTypes. Google's and Azure's are as commonly known, and were
# not looked up at the provider: a GPU of Google's N1 is attached by itself.
SIZES: dict[str, Size] = {
    "m6i.xlarge": (4, 0),
    "c7i.4xlarge": (16, 0),
    "g4dn.2xlarge": (8, 1),
    "g5.2xlarge": (8, 1),
    "g5.12xlarge": (48, 4),
    "e2-standard-4": (4, 0),
    "n2-standard-16": (16, 0),
    "n1-standard-8": (8, 0),
    "g2-standard-8": (8, 1),
    "a2-highgpu-2g": (24, 2),
    "Standard_D4s_v5": (4, 0),
    "Standard_D16s_v5": (16, 0),
    "Standard_NC8as_T4_v3": (8, 1),
    "Standard_NC24ads_A100_v4": (24, 1),
    "Standard_NC48ads_A100_v4": (48, 2),
}
CLOUDS = {"aws": "cluster.yaml", "gcp": "gcp.yaml", "azure": "azure.yaml"}
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|(?:password|passwd|secret|token|key)\s*[:=]\s*['\"]?[A-Za-z0-9/+_-]{12,}"
    r"|(?<![A-Za-z0-9-])(?!0{8,}|[0-]{36})[A-Fa-f0-9]{32,}",
    re.IGNORECASE,
)
MARK = "# edit: "
TOKEN = "~/.ray/auth_token"
HAS_TOKEN = f"test -r {TOKEN} || {{"
MARKED_LINES = 30  # the lines to edit end before this one


def load(cloud: str) -> str:
    """Returns a preset's text."""
    return (CLUSTER / CLOUDS[cloud]).read_text(encoding="utf-8")


def complaints(text: str) -> list[str]:
    """Returns what is wrong with a preset."""
    try:
        config = prepare_config(yaml.safe_load(text))
        validate_config(config)
    except Exception as error:  # Ray raises jsonschema's, yaml's and its own
        return [f"Ray refuses it: {str(error).splitlines()[0]}"]
    found = [*marks(text), *secrets_in(text), *machines(config), *head(config), *token(config), *closed(config, text)]
    return [*found, *shared_folder(config)]


def marks(text: str) -> Iterator[str]:
    """Each line to edit is marked, stands first, and is what the rest refers to."""
    lines = text.splitlines()
    metadata = yaml.safe_load(text).get("metadata", {})
    for name in metadata:
        number = next(index for index, line in enumerate(lines) if line.startswith(f"  {name}: "))
        if number >= MARKED_LINES:
            yield f"{name} is not among the first {MARKED_LINES} lines"
        above = lines[number - 1].strip()
        if MARK not in lines[number] and not above.startswith(MARK):
            yield f"{name} is not marked"
        if not re.search(rf"\*{name}\b", text):
            yield f"nothing refers to {name}"
    if text.count(MARK) != len(metadata):
        yield f"{text.count(MARK)} marks for {len(metadata)} lines to edit"


def secrets_in(text: str) -> list[str]:
    """Returns what looks like a password, a key or a token."""
    return [f"looks like a secret: {match.group()}" for match in SECRET.finditer(text)]


def machines(config: Config) -> Iterator[str]:
    """Workers: several kinds with GPUs, on spot, from none, with the resources that the machine has."""
    workers = {name: kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]}
    if sum(kind["resources"].get("GPU", 0) > 0 for kind in workers.values()) < 2:
        yield "fewer than two kinds of GPU machines"
    for name, kind in workers.items():
        cpus, gpus = size_of(kind["node_config"])
        if (kind["resources"].get("CPU"), kind["resources"].get("GPU")) != (cpus, gpus):
            yield f"{name}: the machine has {cpus} CPUs and {gpus} GPUs, but the preset says {kind['resources']}"
        if kind.get("min_workers") != 0 or kind.get("max_workers", 0) < 1:
            yield f"{name}: does not grow from none"
        if not on_spot(kind["node_config"]):
            yield f"{name}: not on spot"
        if bool(gpus) != ("--gpus all" in kind.get("docker", {}).get("worker_run_options", [])):
            yield f"{name}: the container's GPUs are not the machine's"


def size_of(node_config: Mapping[str, Any]) -> Size:
    """Returns the CPUs and GPUs of a machine of any provider."""
    attached = sum(item["acceleratorCount"] for item in node_config.get("guestAccelerators", []))
    cpus, gpus = SIZES[machine_name(node_config)]
    return cpus, gpus + attached


def machine_name(node_config: Mapping[str, Any]) -> str:
    """Returns the provider's name of a kind of machine."""
    names = (node_config.get("InstanceType"), node_config.get("machineType"), azure(node_config).get("vmSize"))
    return next(str(name) for name in names if name)


def azure(node_config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what Azure's template takes; empty for other providers."""
    found: Mapping[str, Any] = node_config.get("azure_arm_parameters", {})
    return found


def on_spot(node_config: Mapping[str, Any]) -> bool:
    """Whether the provider may take the machine back."""
    return (
        node_config.get("InstanceMarketOptions") == {"MarketType": "spot"}
        or node_config.get("scheduling", {}).get("provisioningModel") == "SPOT"
        or azure(node_config).get("priority") == "Spot"
    )


def head(config: Config) -> Iterator[str]:
    """The head: on demand, without GPUs and trials; machines that idle go."""
    kind = config["available_node_types"][config["head_node_type"]]
    if kind["resources"] != {"CPU": 0, "GPU": 0}:
        yield f"head: trials may run there: {kind['resources']}"
    if on_spot(kind["node_config"]):
        yield "head: on spot"
    if size_of(kind["node_config"])[1]:
        yield "head: has a GPU"
    if kind.get("max_workers") != 0:
        yield "head: may become a worker"
    if not 1 <= config["idle_timeout_minutes"] <= 60:
        yield "idle machines stay"


def token(config: Config) -> Iterator[str]:
    """The token reaches the container of every node, which asks for it, and is looked for before Ray starts."""
    run_options = config["docker"]["run_options"]
    if "--env RAY_AUTH_MODE=token" not in run_options:
        yield "Ray runs without a token"
    if config["file_mounts"].get(TOKEN) != TOKEN:
        yield "the token is not mounted"
    for kind in ("head", "worker"):
        commands = config[f"{kind}_start_ray_commands"]
        starts = [index for index, command in enumerate(commands) if "ray start" in command]
        looks = [index for index, command in enumerate(commands) if command.startswith(HAS_TOKEN)]
        if not starts or not looks or looks[0] > starts[0]:
            yield f"{kind}: starts without looking for the token"
    started = docker_start_cmds(
        "ubuntu", "image", config["file_mounts"], "name", run_options, config["cluster_name"], "/home/ray", "docker"
    )
    mounted = re.search(r"-v (\S+)/auth_token:/home/ray/.ray/auth_token", started)
    readable = mounted and f"cd {mounted[1].replace('~', chr(92) + '~')} && chmod 640 auth_token && sudo chgrp 1000"
    if readable and not any(command.startswith(readable) for command in config["initialization_commands"]):
        yield "the container's user can't read the token"


def closed(config: Config, text: str) -> Iterator[str]:
    """Nothing listens to the world, and Ray makes no network of its own."""
    head_start = " ".join(config["head_start_ray_commands"])
    if "--dashboard-host=127.0.0.1" not in head_start or "0.0.0.0" in text:
        yield "the dashboard is open"
    if "--ray-client-server-port" in head_start:
        yield "the client's port is open"
    provider, metadata = config["provider"], config["metadata"]
    if "security_group" in provider:
        yield "Ray would make a security group, which is open to the world by SSH"
    for name, kind in config["available_node_types"].items():
        if not has_network(provider, kind["node_config"], metadata):
            yield f"{name}: Ray would choose the network"


def has_network(provider: Mapping[str, Any], node_config: Mapping[str, Any], metadata: Mapping[str, str]) -> bool:
    """Whether a machine goes into the user's own network."""
    if provider["type"] == "aws":
        return bool(node_config.get("SecurityGroupIds") == [metadata.get("security_group")])
    if provider["type"] == "gcp":
        return [card.get("subnetwork") for card in node_config.get("networkInterfaces", [])] == [metadata["subnetwork"]]
    return bool(provider.get("unique_id") and provider.get("subnet_mask"))  # the names in README.md rest on them


def shared_folder(config: Config) -> Iterator[str]:
    """One folder at the same path on every machine and in every container."""
    if "--volume /shared:/shared" not in config["docker"]["run_options"]:
        yield "the container lacks /shared"
    if config["metadata"]["mount_shared"] not in config["initialization_commands"]:
        yield "/shared is not mounted"
    if not re.search(r"sudo mount -t nfs4? -o \S*\bhard\b\S* \S+:/\S* /shared$", config["metadata"]["mount_shared"]):
        yield "/shared is not NFS that waits for its server"
