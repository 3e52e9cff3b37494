"""`cluster/on_prem.yaml`: Ray takes it by its schema, a user edits the marked lines alone, no secret stands in it."""

import json
import re
import shlex
from importlib.resources import files

import jsonschema
import pytest
import yaml

from segsweep.ray_session import SETTINGS, WORKER_SETTINGS
from tests.cluster.cluster import MARK, ON_PREM, edited

TEXT = ON_PREM.read_text()
CONFIG = yaml.safe_load(TEXT)
STARTS = {kind: " ".join(CONFIG[f"{kind}_start_ray_commands"]) for kind in ("head", "worker")}


def test_rays_schema_takes_it() -> None:
    schema = json.loads((files("ray") / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(CONFIG, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(CONFIG | {"no_such_key": 1}, schema)


def test_what_a_user_edits_is_marked() -> None:
    marked = [line for line in TEXT.splitlines() if MARK in line]
    keys = ["head_ip:", "worker_ips:", "ssh_user:", "ssh_private_key:", "SEGSWEEP=", "OPTIONS="]
    assert [key for key, line in zip(keys, marked, strict=True) if key in line] == keys
    assert all(len(line.partition(MARK)[2]) > 10 for line in marked)


def test_an_edit_of_what_is_not_marked_is_refused() -> None:
    assert yaml.safe_load(edited(TEXT, {"head_ip:": "  head_ip: 10.0.0.1"}))["provider"]["head_ip"] == "10.0.0.1"
    with pytest.raises(LookupError, match="expected one marked line with 'cluster_name', but got 0"):
        edited(TEXT, {"cluster_name": "cluster_name: other"})


def test_ray_is_set_as_segsweep_sets_it_where_it_starts_ray_itself() -> None:
    of_driver = ("TUNE_", "RAY_AIR_NEW_OUTPUT")  # read by the driver, which sets them itself
    exported = dict(
        word.split("=", 1)
        for command in CONFIG["setup_commands"]
        for word in re.findall(r"[A-Za-z_]+=[^ ']*", command)
        if "export" in command
    )
    expected = {name: value for name, value in SETTINGS.items() if not name.startswith(of_driver)} | WORKER_SETTINGS
    assert expected.items() <= exported.items()
    assert exported["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_ports_are_pinned_and_the_environment_is_read(kind: str) -> None:
    start = STARTS[kind]
    ports = dict(re.findall(r"--([a-z-]+-port)=(\d+)", start))
    between_machines = (
        "object-manager",
        "node-manager",
        "runtime-env-agent",
        "metrics-export",
        "min-worker",
        "max-worker",
    )
    assert {f"{name}-port" for name in between_machines} <= ports.keys()
    assert len(set(ports.values())) == len(ports)
    stop, begin = CONFIG[f"{kind}_start_ray_commands"]
    assert stop.startswith(". ~/.segsweep_node && ") and begin.startswith(". ~/.segsweep_node && ")
    assert "0.0.0.0" not in start and "::" not in start


def test_the_dashboard_listens_on_loopback() -> None:
    assert "--dashboard-host=127.0.0.1" in shlex.split(STARTS["head"])


def test_the_token_comes_from_a_file_of_the_users() -> None:
    assert CONFIG["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert not re.search(r"[0-9a-f]{32}", TEXT)


def test_every_line_of_its_own_has_a_reason_beside_it_or_above_it() -> None:
    lines = TEXT.splitlines()
    for above, line in zip(lines, lines[1:], strict=False):
        if line.lstrip().startswith("- echo"):
            assert MARK in line or above.lstrip().startswith("#"), line
