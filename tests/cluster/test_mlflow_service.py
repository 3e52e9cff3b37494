"""MLflow's service: the compose file, its passwords, its bucket, and the systemd unit, run for real on PostgreSQL."""

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from mlflow.tracking import MlflowClient

from segtrack.recorder import SweepRecorder
from tests.cluster.preset_checks import CLUSTER, ROOT, secrets_in

SERVICE = CLUSTER / "mlflow"
UNIT = SERVICE / "systemd" / "segsweep-mlflow.service"
PINNED = re.compile(r".+:\d[\w.-]*$")
Compose = dict[str, Any]


def compose_complaints(text: str) -> Iterator[str]:
    """Says what is wrong with a compose file."""
    compose = yaml.safe_load(text)
    services: Compose = compose["services"]
    for name, service in services.items():
        if not PINNED.match(service["image"]):
            yield f"{name}: the image is not pinned"
        if not set(service.get("secrets", [])) <= set(compose["secrets"]):
            yield f"{name}: wants a secret that there is not"
        if name != "bucket" and "healthcheck" not in service:
            yield f"{name}: nobody sees whether it is well"
        if "outside" in service["networks"] and name != "mlflow":
            yield f"{name}: reaches out"
        if any(not str(port).startswith("127.0.0.1:") for port in service.get("ports", [])):
            yield f"{name}: listens to the world"
        for other in service.get("depends_on", {}):
            if other not in services:
                yield f"{name}: waits for nobody"
    if compose["networks"]["inside"] != {"internal": True}:
        yield "the database's network is open"
    made = {Path(secret["file"]).name for secret in compose["secrets"].values()}
    if {Path(secret["file"]).parent for secret in compose["secrets"].values()} != {Path("secrets")}:
        yield "secrets lie elsewhere"
    script = (SERVICE / "secrets.sh").read_text(encoding="utf-8")
    if made != set(re.findall(r"> secrets\.new/(\w[\w.]*)", script)):
        yield "secrets.sh makes others"
    used = {secret for service in services.values() for secret in service.get("secrets", [])}
    if used != set(compose["secrets"]):
        yield "a secret is for nobody"
    if "--artifacts-destination s3://mlflow" not in services["mlflow"]["command"]:
        yield "artefacts do not go through the server"
    yield from secrets_in(text)


def test_compose_file_keeps_the_rules() -> None:
    assert list(compose_complaints((SERVICE / "compose.yaml").read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("ours", "broken", "complaint"),
    [
        ("postgres:17.6-bookworm", "postgres:latest", "database: the image is not pinned"),
        ("chrislusf/seaweedfs:4.48", "chrislusf/seaweedfs", "objects: the image is not pinned"),
        ("secrets: [postgres_password]", "secrets: [password]", "database: wants a secret"),
        (
            "    healthcheck: {test: [CMD-SHELL, pg_isready",
            "    note: {test: [CMD-SHELL, pg_isready",
            "database: nobody",
        ),
        ('"127.0.0.1:5000:5000"', '"5000:5000"', "mlflow: listens to the world"),
        (
            "    networks: [inside]\n    healthcheck: {test: [CMD,",
            "    networks: [outside]\n    healthcheck: {test: [CMD,",
            "objects: reaches out",
        ),
        ("{objects: {condition", "{store: {condition", "bucket: waits for nobody"),
        ("inside: {internal: true}", "inside: {}", "network is open"),
        ("{file: secrets/pgpass}", "{file: pgpass}", "secrets lie elsewhere"),
        ("{file: secrets/pgpass}", "{file: secrets/other}", "secrets.sh makes others"),
        ("    secrets: [s3.json]\n", "", "a secret is for nobody"),
        (" --artifacts-destination s3://mlflow", "", "artefacts do not go through"),
        ("POSTGRES_USER: mlflow", "POSTGRES_PASSWORD: correcthorsebattery", "looks like a secret"),
    ],
)
def test_each_rule_catches_what_it_is_for(ours: str, broken: str, complaint: str) -> None:
    text = (SERVICE / "compose.yaml").read_text(encoding="utf-8")
    assert ours in text
    found = list(compose_complaints(text.replace(ours, broken)))
    assert any(complaint in line for line in found), found


def make_secrets(folder: Path) -> subprocess.CompletedProcess[str]:
    shutil.copy(SERVICE / "secrets.sh", folder)
    return subprocess.run(["sh", "secrets.sh"], cwd=folder, capture_output=True, text=True, check=False)


def test_one_command_makes_passwords_that_agree_and_only_their_owner_reads(tmp_path: Path) -> None:
    assert make_secrets(tmp_path).returncode == 0
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert made["pgpass"] == f"database:5432:mlflow:mlflow:{made['postgres_password']}\n"
    keys = json.loads(made["s3.json"])["identities"][0]["credentials"][0]
    assert f"aws_access_key_id = {keys['accessKey']}\n" in made["aws_credentials"]
    assert f"aws_secret_access_key = {keys['secretKey']}\n" in made["aws_credentials"]
    assert len({made["postgres_password"], keys["accessKey"], keys["secretKey"]}) == 3
    assert len(made["postgres_password"]) == 48
    for path in [tmp_path / ".env", tmp_path / "secrets", *(tmp_path / "secrets").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert (tmp_path / ".env").read_text() == f"OWNER={os.getuid()}:{os.getgid()}\n"


def test_passwords_are_made_once_and_differ_between_installations(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        make_secrets(folder)
    password = (first / "secrets" / "postgres_password").read_text()
    assert password != (second / "secrets" / "postgres_password").read_text()
    assert make_secrets(first).returncode == 2
    assert (first / "secrets" / "postgres_password").read_text() == password


def test_what_secrets_makes_is_not_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/cluster/mlflow/secrets*/", "/cluster/mlflow/.env"} <= set(ignored)


@pytest.mark.slow
def test_bucket_is_made_once(s3: str) -> None:
    for _ in range(2):
        script = [sys.executable, str(SERVICE / "make_bucket.py"), "made-once"]
        assert "bucket made-once is there" in subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert "made-once" in {bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]}


def unit(text: str) -> dict[str, dict[str, str]]:
    """Returns a unit's sections; an option that comes twice does not count here."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return {section: dict(parser[section]) for section in parser.sections()}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("broken", [False, True])
def test_systemd_accepts_the_unit_and_finds_it_hardened(tmp_path: Path, broken: bool) -> None:
    text = UNIT.read_text(encoding="utf-8").replace("/opt/segsweep-mlflow/bin/mlflow", "/bin/true")
    placed = tmp_path / UNIT.name
    placed.write_text(text.replace("ProtectSystem=strict", "ProtectSystem=perhaps") if broken else text)
    verified = subprocess.run(["systemd-analyze", "verify", placed], capture_output=True, text=True, check=False)
    said = [line for line in verified.stderr.splitlines() if UNIT.name in line]
    assert bool(said) == broken
    if not broken:
        rating = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=20", placed],
            capture_output=True,
            check=False,
        )
        assert rating.returncode == 0  # at most 2.0 of 10


def postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """PostgreSQL on loopback with a database `mlflow` of a user that needs a password: its port and the password."""
    programs = postgres_programs()
    assert programs is not None
    port, password = free_port(), "from-the-environment-file"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("/")  # the user postgres can't enter the folder of tests
        folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        if as_postgres:
            shutil.chown(folder, "postgres", "postgres")

        def run(*command: str, **options: Any) -> None:
            subprocess.run([*as_postgres, *command], check=True, capture_output=True, **options)

        secret = folder / "password"
        run("sh", "-c", f"printf %s {password} > {secret}")
        data = str(folder / "data")
        run(
            str(programs / "initdb"),
            "--pgdata",
            data,
            "--username=mlflow",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
        )
        settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        run(
            str(programs / "pg_ctl"),
            "--pgdata",
            data,
            "--wait",
            "--log",
            f"{folder}/log",
            "--options",
            settings,
            "start",
        )
        try:
            environment = {**os.environ, "PGPASSWORD": password}
            createdb = [str(programs / "createdb"), "--host=127.0.0.1", f"--port={port}", "--username=mlflow", "mlflow"]
            subprocess.run(createdb, check=True, env=environment, capture_output=True)
            yield port, password
        finally:
            run(str(programs / "pg_ctl"), "--pgdata", data, "--mode=fast", "--wait", "stop")
            shutil.rmtree(folder)


def environment_file(database_port: int, password: str, artifacts: Path) -> dict[str, str]:
    """mlflow.env.example with its blanks filled in."""
    text = (SERVICE / "systemd" / "mlflow.env.example").read_text(encoding="utf-8")
    lines = [line.partition("=") for line in text.splitlines() if line and not line.startswith("#")]
    filled = {name: value for name, _, value in lines}
    filled["BACKEND"] = filled["BACKEND"].replace(":5432/", f":{database_port}/")
    return {**filled, "PGPASSWORD": password, "ARTIFACTS": str(artifacts)}


def command_of_unit(settings: dict[str, str], port: int) -> list[str]:
    """ExecStart as systemd would run it, on another port and from this environment's programs."""
    words = shlex.split(unit(UNIT.read_text(encoding="utf-8"))["Service"]["ExecStart"])
    filled = [re.sub(r"\$\{(\w+)\}", lambda match: settings[match[1]], word) for word in words]
    assert filled[0] == "/opt/segsweep-mlflow/bin/mlflow"
    assert filled[filled.index("--host") + 1] == "127.0.0.1"
    filled[0] = str(Path(sys.executable).with_name("mlflow"))
    filled[filled.index("--port") + 1] = str(port)
    return filled


def wait_until_healthy(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    while True:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed")
@pytest.mark.skipif(os.getuid() != 0, reason="PostgreSQL's user is root's to become")
def test_server_of_the_unit_keeps_a_sweep_in_postgresql(database: tuple[int, str], tmp_path: Path) -> None:
    settings, port, log = environment_file(*database, tmp_path / "artifacts"), free_port(), tmp_path / "log"
    environment = {**os.environ, **settings, "HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"}
    with log.open("wb") as output:
        server = subprocess.Popen(
            command_of_unit(settings, port),
            env=environment,
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until_healthy(server, port, log)
        uri = f"http://127.0.0.1:{port}"
        recorder = SweepRecorder(uri, "nuclei", "first", "1", {})
        recorder.start_trial(0, {"lr": "0.1"}, {})
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name("nuclei")
        assert experiment is not None
        trial = client.search_runs([experiment.experiment_id], "tags.`segsweep.kind` = 'trial'")[0]
        assert trial.data.params["lr"] == "0.1"
        picture = tmp_path / "picture.txt"
        picture.write_text("through the server")
        client.log_artifact(trial.info.run_id, str(picture))
        assert [file.read_text() for file in (tmp_path / "artifacts").rglob("picture.txt")] == ["through the server"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
