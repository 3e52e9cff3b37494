"""The Dockerfile agrees with the lock and the presets. No Docker runs here: what it says is read, not built."""

import re
from collections.abc import Iterator

import pytest

from tests.cluster.preset_checks import CLUSTER, ROOT

# Compute capability of each GPU that a preset names, as commonly known.
CAPABILITIES = {"T4": "7.5", "A100": "8.0", "A10G": "8.6", "L4": "8.9", "H100": "9.0"}
# What the presets call their machines -> the GPU in them.
MACHINES = {
    "g4dn": "T4", "g5": "A10G", "nvidia-tesla-t4": "T4", "g2-standard": "L4", "a2-highgpu": "A100",
    "T4_v3": "T4", "A100_v4": "A100", "Tesla-T4": "T4", "NVIDIA-A100": "A100",
}  # fmt: skip
UV_VERSION = re.findall(
    r'^UV_VERSION = "(.+)"', (ROOT / "scripts" / "set_up.py").read_text(encoding="utf-8"), re.MULTILINE
)[0]


def dockerfile() -> str:
    return (CLUSTER / "Dockerfile").read_text(encoding="utf-8")


def pins(text: str) -> dict[str, str]:
    """Returns the versions of a file of requirements, without their markers."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", text, re.MULTILINE))


def lock() -> dict[str, str]:
    return pins((ROOT / "requirements.lock").read_text(encoding="utf-8"))


def complaints(text: str) -> Iterator[str]:
    """Says what is wrong with a Dockerfile."""
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    stages = text.split("\nFROM ")[1:]
    if arguments.get("CUDA") != lock()["cuda-toolkit"]:
        yield "CUDA is not that of the locked torch"
    if arguments.get("UV") != UV_VERSION:
        yield "uv is not that of make setup"
    if arguments.get("PYTHON") != "3.11":
        yield "another Python"
    built_for = re.search(r'TORCH_CUDA_ARCH_LIST="([^"]*)"', text)
    missing = sorted(set(CAPABILITIES.values()) - set(built_for[1].split(";") if built_for else ()))
    if missing or "FORCE_CUDA=1" not in text:
        yield f"mmcv is not built for {missing or 'any GPU'}"
    for install in re.findall(r"uv pip install[^\n]*(?:\\\n[^\n]*)*", text):
        if "--constraint requirements.lock" not in install and "--no-deps" not in install:
            yield f"not held to the lock: {install.splitlines()[0]}"
    if "--extra dev" in text or "--all-extras" in text:
        yield "tests' tools ship"
    if len(stages) != 2 or "devel" in stages[-1].splitlines()[0] or "g++" in stages[-1]:
        yield "build tools ship"
    if re.search(r"https?://|index-url|find-links|UV_INDEX|PIP_", text):
        yield "a package index is named"
    last_user = re.findall(r"^USER (\S+)", stages[-1], re.MULTILINE)
    if last_user[-1:] != ["ray"] or "--uid 1000" not in stages[-1]:
        yield "does not run as ray"
    installed = " ".join(re.findall(r"apt-get install (.*)", stages[-1])).split()
    if "HOME=/home/ray" not in stages[-1] or not {"rsync", "openssh-client"} <= set(installed):
        yield "ray up can't work with it"


def test_dockerfile_keeps_the_rules() -> None:
    assert list(complaints(dockerfile())) == []


@pytest.mark.parametrize(
    ("ours", "broken", "complaint"),
    [
        ("ARG CUDA=13.0.2", "ARG CUDA=12.8.1", "CUDA is not"),
        (f"ARG UV={UV_VERSION}", "ARG UV=0.1.0", "uv is not"),
        ("ARG PYTHON=3.11", "ARG PYTHON=3.13", "another Python"),
        ("8.6;", "", "mmcv is not built for ['8.6']"),
        ("FORCE_CUDA=1 ", "", "mmcv is not built for any GPU"),
        (
            "install --constraint requirements.lock --requirements pyproject",
            "install --requirements pyproject",
            "not held",
        ),
        ("--extra viewer", "--extra viewer --extra dev", "tests' tools ship"),
        ("-base-ubuntu24.04", "-devel-ubuntu24.04", "build tools ship"),
        ("openssh-client rsync", "g++ openssh-client rsync", "build tools ship"),
        ("uv python install", "PIP_INDEX_URL=elsewhere uv python install", "a package index"),
        ("USER ray", "USER root", "does not run as ray"),
        ("ENV HOME=/home/ray", "ENV", "ray up can't work"),
        ("openssh-client rsync", "openssh-client", "ray up can't work"),
    ],
)
def test_each_rule_catches_what_it_is_for(ours: str, broken: str, complaint: str) -> None:
    assert ours in dockerfile()
    found = list(complaints(dockerfile().replace(ours, broken)))
    assert any(complaint in line for line in found), found


@pytest.mark.parametrize("preset", ["cluster.yaml", "gcp.yaml", "azure.yaml", "kuberay.yaml"])
def test_image_is_built_for_every_gpu_of_a_preset(preset: str) -> None:
    """A machine with a GPU that is not in the tables above fails here, not in the first trial."""
    text = (CLUSTER / preset).read_text(encoding="utf-8")
    named = re.findall(
        r"(?:InstanceType|machineType|vmSize|acceleratorType|-gpu): (?:&\w+ )?"
        r"(?!m6i|c7i|e2-|n1-|n2-|Standard_D)([\w.-]+)",  # without a GPU of their own
        text,
    )
    assert len(named) >= 2
    for machine in named:
        gpu = next(gpu for part, gpu in MACHINES.items() if part in machine)
        assert CAPABILITIES[gpu] in dockerfile()


@pytest.mark.parametrize("name", ["sdk/aws.txt", "sdk/gcp.txt", "sdk/azure.txt", "mlflow/requirements.txt"])
def test_other_requirements_agree_with_the_lock(name: str) -> None:
    lines = (CLUSTER / name).read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    found = pins("\n".join(wanted))
    assert len(found) == len(wanted) > 20
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    agreeing = {pin for pin, version in found.items() if re.search(rf"^{pin}=={version}(\s|$)", locked, re.MULTILINE)}
    assert {pin for pin in found if re.search(rf"^{pin}==", locked, re.MULTILINE)} == agreeing
    assert len(agreeing) > 10


def test_clouds_go_together_in_one_image() -> None:
    several = [
        pins((CLUSTER / "sdk" / f"{cloud}.txt").read_text(encoding="utf-8")) for cloud in ("aws", "gcp", "azure")
    ]
    merged: dict[str, str] = {}
    for found in several:
        assert {pin for pin in merged.keys() & found.keys() if merged[pin] != found[pin]} == set()
        merged |= found


def test_builder_gets_the_code_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert rules[0] == "*"  # everything is out but what follows
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert allowed == packages | {"pyproject.toml", "requirements.lock", "README.md", "cluster/sdk"}
