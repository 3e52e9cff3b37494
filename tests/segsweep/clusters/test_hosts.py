"""`segsweep doctor --cluster`: what it says of each machine, by what `ssh` says; the real `ssh` is tried in the lab."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from segdata.errors import InputError
from segsweep.cli.doctor import doctor
from segsweep.clusters.hosts import check_hosts, read_hosts
from segsweep.doctor import Check

KEYGEN = shutil.which("ssh-keygen")
CLUSTER = Path(__file__).parents[3] / "cluster"
FILE = """\
cluster_name: segsweep
provider:
  type: local
  head_ip: 10.0.0.10
  worker_ips: [10.0.0.11, 10.0.0.12]
auth:
  ssh_user: ubuntu
  ssh_private_key: key
"""
# The file of an address holds what ssh says there, and its exit code on the first line; without one all is well.
SSH = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/calls"
for word in "$@"; do case $word in *@*) said="$(dirname "$0")/${word#*@}";; esac; done
test -f "$said" || exit 0
tail -n +2 "$said" >&2
exit "$(head -n 1 "$said")"
"""
# A key file holds what ssh-keygen says of it, and nothing if it is well.
SSH_KEYGEN = """#!/bin/sh
while [ "$1" != -f ]; do shift; done
test ! -s "$2" && echo ssh-ed25519 AAAA && exit 0
cat "$2" >&2
exit 255
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the programs, with a cluster file and its key in the working folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("ssh", SSH), ("ssh-keygen", SSH_KEYGEN)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    Path("on_prem.yaml").write_text(FILE)
    Path("key").touch()
    return folder


def host_says(programs: Path, address: str, exit_code: int, text: str) -> None:
    (programs / address).write_text(f"{exit_code}\n{text}\r\n")


def rows() -> dict[str, Check]:
    return {check.name: check for check in check_hosts(Path("on_prem.yaml"))}


def test_machines_that_let_us_in_are_asked_as_ray_asks_them(programs: Path) -> None:
    assert check_hosts(Path("on_prem.yaml")) == (
        Check("key", "ok", "key"),
        Check("head 10.0.0.10", "ok", "lets ubuntu in"),
        Check("worker 10.0.0.11", "ok", "lets ubuntu in"),
        Check("worker 10.0.0.12", "ok", "lets ubuntu in"),
    )
    calls = [shlex.split(call) for call in (programs / "calls").read_text().splitlines()]
    assert sorted(call[-2:] for call in calls) == [[f"ubuntu@10.0.0.{host}", "true"] for host in (10, 11, 12)]
    for call in calls:
        assert call[:2] == ["-i", "key"] and call[-3] == "--"
        assert {"BatchMode=yes", "ConnectTimeout=10", "IdentitiesOnly=yes", "StrictHostKeyChecking=no"} <= set(call)


def test_ssh_gets_the_options_that_ray_gives_it(programs: Path) -> None:
    from ray.autoscaler._private.command_runner import SSHOptions

    options = SSHOptions("key").arg_dict  # type: ignore[no-untyped-call]
    check_hosts(Path("on_prem.yaml"))
    called = (programs / "calls").read_text()
    for name in ("StrictHostKeyChecking", "UserKnownHostsFile", "IdentitiesOnly"):
        assert f"-o {name}={options[name]} " in called


@pytest.mark.parametrize(
    ("exit_code", "said", "status", "found", "cure"),
    [
        (
            255,
            "ssh: connect to host 10.0.0.12 port 22: No route to host",
            "fail",
            "no answer: connect to host 10.0.0.12 port 22: No route to host",
            "Switch it on, start sshd, let its port be reached, or correct `provider` in on_prem.yaml",
        ),
        (
            255,
            "ubuntu@10.0.0.12: Permission denied (publickey).",
            "fail",
            "does not let ubuntu in with key",
            "ssh-copy-id -i key ubuntu@10.0.0.12, or correct `auth` in on_prem.yaml",
        ),
        (
            1,
            "This account is currently not available.",
            "fail",
            "lets ubuntu in, but runs no command: This account is currently not available.",
            "Give that user a shell there, or correct auth.ssh_user",
        ),
        (
            0,
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nSomeone could be eavesdropping",
            "warn",
            "lets ubuntu in, but its host key is not the one in known_hosts",
            "Ray does not look at host keys. If that machine was set up anew: ssh-keygen -R 10.0.0.12",
        ),
    ],
)
def test_what_a_machine_says_is_told_with_the_cure(
    programs: Path, exit_code: int, said: str, status: str, found: str, cure: str
) -> None:
    host_says(programs, "10.0.0.12", exit_code, said)
    told = rows()
    row = told.pop("worker 10.0.0.12")
    assert (row.status, row.found, row.cure) == (status, found, cure)
    assert {check.status for check in told.values()} == {"ok"}


def test_a_machine_that_lets_us_in_and_then_says_nothing(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segsweep.clusters.hosts.ANSWER_S", 1.0)
    (programs / "ssh").write_text("#!/bin/sh\nexec sleep 60\n")
    row = rows()["worker 10.0.0.11"]
    assert (row.status, row.found) == ("fail", "no answer within 1 s")
    assert row.cure == "See what ssh -i key ubuntu@10.0.0.11 waits for"


@pytest.mark.parametrize(
    ("said", "found", "cure"),
    [
        (
            'Load key "key": incorrect passphrase supplied to decrypt private key',
            "key has a passphrase",
            "ssh-keygen -p -f key",
        ),
        ('Load key "key": bad permissions', "key can be read by others: ssh ignores it", "chmod 600 key"),
        ('Load key "key": invalid format', "key is no private key: invalid format", "not the .pub file"),
    ],
)
def test_a_key_that_is_of_no_use_is_told_alone(programs: Path, said: str, found: str, cure: str) -> None:
    Path("key").write_text(said)
    (row,) = check_hosts(Path("on_prem.yaml"))
    assert (row.name, row.status, row.found) == ("key", "fail", found) and cure in row.cure
    assert not (programs / "calls").exists()


@pytest.mark.skipif(KEYGEN is None, reason="no ssh-keygen here")
def test_the_real_ssh_keygen_says_so(programs: Path) -> None:
    assert KEYGEN is not None
    (programs / "ssh-keygen").unlink()
    (programs / "ssh-keygen").symlink_to(KEYGEN)
    found = {}
    for name, words in (("fine", ""), ("closed", "words"), ("open", ""), ("text", "")):
        subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", words, "-f", name], check=True)
    Path("open").chmod(0o644)
    Path("text").write_text("no key")
    for name in ("fine", "closed", "open", "text", "fine.pub"):
        Path("on_prem.yaml").write_text(FILE.replace("ssh_private_key: key", f"ssh_private_key: {name}"))
        found[name] = rows()["key"].found
    assert found.pop("text").startswith("text is no private key: ")
    assert found == {
        "fine": "fine",
        "closed": "closed has a passphrase",
        "open": "open can be read by others: ssh ignores it",
        "fine.pub": "fine.pub can be read by others: ssh ignores it",
    }


def test_a_key_that_is_not_there(programs: Path) -> None:
    Path("key").unlink()
    (row,) = check_hosts(Path("on_prem.yaml"))
    assert (row.status, row.found) == ("fail", "no file key that can be read")


def test_without_a_key_ssh_takes_its_own(programs: Path) -> None:
    Path("on_prem.yaml").write_text(FILE.replace("  ssh_private_key: key\n", ""))
    assert rows()["key"].found == "on_prem.yaml names none: ssh's own ones"
    assert all(not call.startswith("-i") for call in (programs / "calls").read_text().splitlines())


def test_workers_that_only_the_head_reaches_are_not_asked(programs: Path) -> None:
    Path("on_prem.yaml").write_text(FILE + "  ssh_proxy_command: nc -x proxy:1 %h %p\n")
    told = rows()
    assert told["head 10.0.0.10"].status == "ok"
    assert (told["worker 10.0.0.11"].status, told["worker 10.0.0.11"].found) == ("warn", "not asked")
    (call,) = (programs / "calls").read_text().splitlines()
    assert "-o ProxyCommand=nc -x proxy:1 %h %p " in call
    Path("on_prem.yaml").write_text(FILE.replace("  type: local", "  type: local\n  external_head_ip: 1.2.3.4"))
    assert [name for name, row in rows().items() if row.status == "ok"] == ["key", "head 1.2.3.4"]


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        (
            "type: local",
            "type: aws",
            "on_prem.yaml:3: provider.type: expected `local`, machines of your own, but got aws",
        ),
        (
            "  head_ip: 10.0.0.10\n",
            "",
            "on_prem.yaml:2: provider.head_ip: expected the address of a machine, but got no",
        ),
        ("head_ip: 10.0.0.10", "head_ip: -oProxyCommand=x", ":4: provider.head_ip: .* but got '-oProxyCommand=x'"),
        ("[10.0.0.11, 10.0.0.12]", "10.0.0.11", ":5: provider.worker_ips: expected a list of addresses, but got '10"),
        ("10.0.0.12]", "12]", ":5: provider.worker_ips.1: expected the address of a machine, but got 12"),
        ("10.0.0.12]", "10.0.0.10]", ":5: provider.worker_ips: expected each machine once, the head left out, but got"),
        ("  ssh_user: ubuntu\n", "", "on_prem.yaml:6: auth.ssh_user: expected a text, but got nothing"),
        (
            "ssh_private_key: key",
            "ssh_private_key: [key]",
            r":8: auth.ssh_private_key: expected a text, but got \['key'",
        ),
        (
            "provider:\n  type: local",
            "provider: local\nx:",
            "on_prem.yaml:2: provider: expected `key: value` lines, but",
        ),
        ("10.0.0.12]", "10.0.0.12", "on_prem.yaml:6: expected YAML, but got a syntax error"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(programs: Path, line: str, instead: str, message: str) -> None:
    assert line in FILE
    Path("on_prem.yaml").write_text(FILE.replace(line, instead))
    with pytest.raises(InputError, match=message) as refused:
        check_hosts(Path("on_prem.yaml"))
    assert "\n" not in str(refused.value) and not (programs / "calls").exists()


def test_a_file_that_is_not_there(programs: Path) -> None:
    with pytest.raises(
        InputError, match="no.yaml: expected a cluster file, but got no such file. .* cluster/on_prem.y"
    ):
        check_hosts(Path("no.yaml"))


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("cluster.yaml", "provider.type: expected `local`, .* but got aws. Its machines are made by `ray up`"),
        ("gcp.yaml", "provider.type: expected `local`, .* but got gcp"),
        ("azure.yaml", "provider.type: expected `local`, .* but got azure"),
        ("kuberay.yaml", "expected `local`, machines of your own, but got Kubernetes. .* made by `kubectl apply`"),
    ],
)
def test_machines_of_a_cloud_cannot_be_asked_before(preset: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_hosts(CLUSTER / preset)


def test_the_preset_is_read() -> None:
    hosts = read_hosts(CLUSTER / "on_prem.yaml")
    assert (hosts.head, hosts.workers, hosts.user) == ("192.168.0.10", ("192.168.0.11", "192.168.0.12"), "ubuntu")
    assert hosts.key == Path("~/.ssh/id_ed25519").expanduser()


def test_without_ssh_it_is_said_what_to_install(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (programs / "ssh").unlink()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(InputError, match="expected the program ssh, but there is none on PATH. .* openssh-client"):
        check_hosts(Path("on_prem.yaml"))


def test_the_command_ends_as_doctor_does(programs: Path) -> None:
    app = typer.Typer()
    app.command()(doctor)
    asked = ["--cluster", "on_prem.yaml"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    host_says(programs, "10.0.0.11", 255, "ssh: connect to host 10.0.0.11 port 22: Connection refused")
    told = CliRunner().invoke(app, [*asked, "--json"])
    assert told.exit_code == 1
    assert [check["status"] for check in json.loads(told.stdout)["checks"]] == ["ok", "ok", "fail", "ok"]


def test_a_wrong_file_is_one_line_and_exit_code_2(programs: Path) -> None:
    command = [str(Path(sys.executable).with_name("segsweep")), "doctor", "--cluster", str(CLUSTER / "gcp.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(f"error: {CLUSTER}/gcp.yaml:")
