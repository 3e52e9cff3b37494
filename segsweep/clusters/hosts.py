"""Whether the machines that a cluster file names let `ray up` in: asked beforehand, all side by side.

For the user's own machines (provider `local`). `ray up` tries for 15 minutes to reach a head; workers are reached by
the head later, and whoever typed `ray up` hears nothing of them. The system's `ssh` is called as Ray calls it. Nothing
is started or written anywhere.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from search_spaces.yaml_source import YamlSource, read_yaml
from segdata.errors import InputError
from segsweep.doctor import Check

__all__ = ["Hosts", "check_hosts", "read_hosts"]

PRESET = "cluster/on_prem.yaml"
KUBERNETES = re.compile(r"^kind: *RayCluster\b", re.MULTILINE)
ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]*")
CONNECT_S = 10
ANSWER_S = 30.0  # with all that follows the connection
AT_A_TIME = 64
# The first three are Ray's own; Ray looks at no machine's host key. The others have it ask nobody, and open a
# connection of its own.
OPTIONS = {
    "IdentitiesOnly": "yes",
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": os.devnull,
    "BatchMode": "yes",
    "ConnectTimeout": str(CONNECT_S),
    "ControlPath": "none",
    "LogLevel": "ERROR",
}
KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
ON_HEAD = "ssh_proxy_command", "external_head_ip"  # with one of these workers need not be in reach from here


@dataclass(frozen=True, slots=True)
class Hosts:
    """What a cluster file says of the user's own machines.

    Attributes:
        file: The cluster file.
        head: The head's address, as it is reached from here.
        workers: Of the others, as the head reaches them.
        user: Who logs in.
        key: File with the private key; None = ssh's own ones.
        proxy: Command through which ssh reaches the head; "" = none.
        inside: Whether only the head is said to be in reach from here.
    """

    file: Path
    head: str
    workers: tuple[str, ...]
    user: str
    key: Path | None
    proxy: str = ""
    inside: bool = False


def check_hosts(file: Path) -> tuple[Check, ...]:
    """Asks all machines of a cluster file; returns a row for the key and one for each machine. Takes half a minute at
    most.

    Raises:
        InputError: The file is none of the user's own machines, or there is no `ssh` here.
    """
    hosts = read_hosts(file)
    for program in ("ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            raise InputError.of(
                f"expected the program {program}, but there is none on PATH",
                where="--cluster",
                cure="`ray up` needs it too. Debian, Ubuntu: apt install openssh-client.",
            )
    key = check_key(hosts)
    if key.status == "fail":
        return (key,)
    places = [("head", hosts.head), *(("worker", address) for address in hosts.workers)]
    with ThreadPoolExecutor(min(AT_A_TIME, len(places))) as pool:
        return (key, *pool.map(partial(check_host, hosts), *zip(*places, strict=True)))


def read_hosts(file: Path) -> Hosts:
    """Reads the part of a cluster file that says where its machines are.

    Raises:
        InputError: It is not there, not YAML, of a cloud, or lacks something; with line and key.
    """
    try:
        if file.is_file() and KUBERNETES.search(file.read_text(encoding="utf-8", errors="replace")):
            raise made_by_the_cloud(str(file), "Kubernetes", "`kubectl apply`")
        source = read_yaml(file, "cluster", PRESET)
    except OSError as error:
        raise InputError.of(
            f"expected a cluster file that can be read, but got: {error.strerror}", where=file, cure="Check its rights."
        ) from error
    kind = text_at(source, "provider", "type")
    if kind != "local":
        raise made_by_the_cloud(source.locate(["provider", "type"]), kind, "`ray up`")
    provider, auth = mapping_at(source, "provider"), mapping_at(source, "auth")
    head, workers = address_at(source, "head_ip"), addresses_at(source, "worker_ips")
    if len({head, *workers}) != 1 + len(workers):
        raise wrong(source, ["provider", "worker_ips"], "each machine once, the head left out", "one twice")
    key = text_at(source, "auth", "ssh_private_key") if "ssh_private_key" in auth else None
    return Hosts(
        file,
        address_at(source, "external_head_ip") if "external_head_ip" in provider else head,
        workers,
        text_at(source, "auth", "ssh_user"),
        None if key is None else Path(key).expanduser(),
        text_at(source, "auth", "ssh_proxy_command") if "ssh_proxy_command" in auth else "",
        inside=any(name in part for name in ON_HEAD for part in (provider, auth)),
    )


def made_by_the_cloud(where: str, kind: str, maker: str) -> InputError:
    """Returns what to say of machines that are not there yet."""
    return InputError.of(
        f"expected `local`, machines of your own, but got {kind}",
        where=where,
        cure=f"Its machines are made by {maker}: there is none to ask before.",
    )


def wrong(source: YamlSource, key: Sequence[str | int], expected: str, found: object) -> InputError:
    """Returns what to say of a key."""
    return InputError.of(
        f"expected {expected}, but got {found}", where=source.locate(key), cure=f"See the marked lines of {PRESET}."
    )


def mapping_at(source: YamlSource, key: str) -> dict[str, Any]:
    """Returns a part of the file; an empty one if it is not there."""
    found = source.values.get(key, {})
    if not isinstance(found, dict):
        raise wrong(source, [key], "`key: value` lines", repr(found))
    return found


def text_at(source: YamlSource, part: str, name: str) -> str:
    """Returns a text of a part of the file."""
    found = mapping_at(source, part).get(name)
    if not isinstance(found, str) or not found.strip() or found.startswith("-"):
        raise wrong(source, [part, name], "a text", "nothing" if found is None else repr(found))
    return found


def address_at(source: YamlSource, name: str) -> str:
    """Returns the address of a machine."""
    return address(source, ["provider", name], mapping_at(source, "provider").get(name))


def addresses_at(source: YamlSource, name: str) -> tuple[str, ...]:
    """Returns the addresses of several machines."""
    found = mapping_at(source, "provider").get(name)
    if not isinstance(found, list):
        raise wrong(source, ["provider", name], "a list of addresses", "nothing" if found is None else repr(found))
    return tuple(address(source, ["provider", name, place], value) for place, value in enumerate(found))


def address(source: YamlSource, key: Sequence[str | int], found: object) -> str:
    """Returns what may be handed to ssh as a host."""
    if not isinstance(found, str) or not ADDRESS.fullmatch(found):
        raise wrong(source, key, "the address of a machine", "nothing" if found is None else repr(found))
    return found


def check_key(hosts: Hosts) -> Check:
    """The private key can be used without a question: the head, which gets a copy, has nobody to ask."""
    if hosts.key is None:
        return Check("key", "ok", f"{hosts.file} names none: ssh's own ones")
    if not (os.path.isfile(hosts.key) and os.access(hosts.key, os.R_OK)):
        cure = f"Correct auth.ssh_private_key in {hosts.file}, or make one: ssh-keygen -t ed25519 -N '' -f {hosts.key}"
        return Check("key", "fail", f"no file {hosts.key} that can be read", cure)
    done = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", str(hosts.key)], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode == 0:
        return Check("key", "ok", str(hosts.key))
    reason = last_line(done.stderr).rpartition(": ")[2]
    if "passphrase" in reason:
        cure = f"The head gets a copy and can't ask for it. Make one without: ssh-keygen -p -f {hosts.key}"
        return Check("key", "fail", f"{hosts.key} has a passphrase", cure)
    if "bad permissions" in reason:
        return Check("key", "fail", f"{hosts.key} can be read by others: ssh ignores it", f"chmod 600 {hosts.key}")
    cure = f"Let auth.ssh_private_key in {hosts.file} name a private key (not the .pub file)"
    return Check("key", "fail", f"{hosts.key} is no private key: {reason}", cure)


def check_host(hosts: Hosts, role: str, address: str) -> Check:
    """A machine lets us in by that key."""
    name = f"{role} {address}"
    if role == "worker" and hosts.inside:
        cure = f"{hosts.file} has {' or '.join(ON_HEAD)}, so that only the head is asked. `ray monitor` shows the rest"
        return Check(name, "warn", "not asked", cure)
    try:
        done = subprocess.run(
            command(hosts, role, address),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=ANSWER_S,
        )
    except subprocess.TimeoutExpired:
        return Check(name, "fail", f"no answer within {ANSWER_S:g} s", f"See what {by_hand(hosts, address)} waits for")
    return row(hosts, name, address, done)


def command(hosts: Hosts, role: str, address: str) -> list[str]:
    """Returns the call of ssh."""
    options = OPTIONS | {"GlobalKnownHostsFile": f'"{Path.home()}/.ssh/known_hosts" {KNOWN_HOSTS}'}
    if role == "head" and hosts.proxy:
        options["ProxyCommand"] = hosts.proxy
    words = [word for option in options.items() for word in ("-o", "=".join(option))]
    key = [] if hosts.key is None else ["-i", str(hosts.key)]
    return ["ssh", *key, *words, "--", f"{hosts.user}@{address}", "true"]


def row(hosts: Hosts, name: str, address: str, done: "subprocess.CompletedProcess[str]") -> Check:
    """Returns the row of a machine by what ssh said."""
    said = last_line(done.stderr)
    if done.returncode == 0:
        if "HOST IDENTIFICATION HAS CHANGED" not in done.stderr:
            return Check(name, "ok", f"lets {hosts.user} in")
        cure = f"Ray does not look at host keys. If that machine was set up anew: ssh-keygen -R {address}"
        return Check(name, "warn", f"lets {hosts.user} in, but its host key is not the one in known_hosts", cure)
    if done.returncode != 255:  # not ssh's own
        found = f"lets {hosts.user} in, but runs no command: {said or f'exit code {done.returncode}'}"
        return Check(name, "fail", found, "Give that user a shell there, or correct auth.ssh_user")
    if "Permission denied" in said:
        key = "ssh's own keys" if hosts.key is None else str(hosts.key)
        cure = f"ssh-copy-id {by_key(hosts)}{hosts.user}@{address}, or correct `auth` in {hosts.file}"
        return Check(name, "fail", f"does not let {hosts.user} in with {key}", cure)
    cure = f"Switch it on, start sshd, let its port be reached, or correct `provider` in {hosts.file}"
    return Check(name, "fail", f"no answer: {said.removeprefix('ssh: ')}", cure)


def by_hand(hosts: Hosts, address: str) -> str:
    """Returns what to type."""
    return f"ssh {by_key(hosts)}{hosts.user}@{address}"


def by_key(hosts: Hosts) -> str:
    """Returns the option that names the key."""
    return "" if hosts.key is None else f"-i {hosts.key} "


def last_line(text: str) -> str:
    """Returns the last line that says something; ssh ends its own with a carriage return."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
