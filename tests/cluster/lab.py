"""Three hosts on one machine, made of namespaces: a cluster that can be cut, killed and filled up. Root only.

Everything hangs on one process, the hub: a PID, network and mount namespace with a bridge, in which the MLflow server
and `ray up` run. Each host is again a PID, network, mount and UTS namespace, with its own sshd, home, /tmp, /run and
/dev/shm; all see one storage of limited size at `Lab.storage`. Nothing has a name outside: when the hub ends, and the
kernel ends it when whoever made it ends in any way, all processes, links and mounts inside go with it.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

__all__ = ["HUB_ADDRESS", "OPERATOR", "PATIENCE_S", "ROOT", "STORAGE", "Host", "Lab", "missing", "ssh", "still_held"]

ROOT = Path(__file__).resolve().parents[2]  # the checkout
TOOLS = ("ip", "nsenter", "rsync", "setpriv", "ssh", "ssh-keygen", "unshare")
SSHD = "/usr/sbin/sshd"
HUB_ADDRESS = "10.200.0.1"
STORAGE = Path("/mnt/storage")  # as the hub and the hosts see it
HOME = "/run/home"  # of who logs in on a host
OPERATOR = Path("/mnt/operator")  # home of who types `ray up`, with the key
SPACES = ("pid", "net", "mnt", "uts", "ipc")
NEW = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
POLL_S = 0.2
PATIENCE_S = float(os.environ.get("SEGSWEEP_LAB_PATIENCE_S", "240"))  # for any one event; a busy machine wants more

# Folders that a machine of the lab has for itself; a checkout that lies in one of them stays visible at its path.
OWN_FOLDERS = """
mount -t tmpfs tmpfs /run
for kept in $KEPT; do mkdir -p /run/kept$kept; mount --bind $kept /run/kept$kept; done
for own in $OWN; do mount -t tmpfs -o mode=1777 tmpfs $own; done
for kept in $KEPT; do mkdir -p $kept; mount --move /run/kept$kept $kept; done
mount -t tmpfs -o mode=1777,size=4g tmpfs /dev/shm
ip link set lo up
"""
REAP = "echo ready; while :; do sleep 3600 & wait $!; done"  # bash as PID 1 reaps what others leave
HUB = f"""set -eu
OWN="/tmp /mnt"
{OWN_FOLDERS}
mkdir -m 700 {OPERATOR} && mkdir {STORAGE}
mount -t tmpfs -o size=$STORAGE_BYTES tmpfs {STORAGE}
ip link add bridge0 type bridge && ip address add {HUB_ADDRESS}/24 dev bridge0 && ip link set bridge0 up
ssh-keygen -q -t ed25519 -N '' -f {OPERATOR}/key
{REAP}
"""
# A home and a list of users of its own, and sshd, which lets in who has the key.
HOST = f"""set -eu
hostname $NAME
OWN=/tmp
{OWN_FOLDERS}
umask 077
mkdir -p /run/sshd {HOME}/.ssh
touch {HOME}/.bashrc
cp {OPERATOR}/key.pub {HOME}/.ssh/authorized_keys
printf 'root:x:0:0:root:{HOME}:/bin/bash\\nsshd:x:74:74::/run/sshd:/usr/sbin/nologin\\n' > /run/passwd
printf '127.0.0.1 localhost\\n%s %s\\n' $ADDRESS $NAME > /run/hosts
chmod 644 /run/passwd /run/hosts
mount --bind /run/passwd /etc/passwd
mount --bind /run/hosts /etc/hosts
mount -t tmpfs tmpfs {OPERATOR}
ssh-keygen -q -t ed25519 -N '' -f /run/host_key
umask 022
{SSHD} -D -e -f /dev/null -h /run/host_key -o UsePAM=no -o PasswordAuthentication=no -o PermitRootLogin=yes \
    -o PidFile=none -o StrictModes=no -o MaxStartups=100 -o MaxSessions=100 2>/run/sshd.log &
{REAP}
"""


def missing() -> list[str]:
    """Returns what this machine lacks for a lab; empty if it can have one."""
    lacking = [] if os.geteuid() == 0 else ["root"]
    lacking += [tool for tool in TOOLS if shutil.which(tool) is None]
    lacking += [] if os.access(SSHD, os.X_OK) else ["sshd (Debian: openssh-server)"]
    if lacking:
        return lacking
    tried = subprocess.run([*NEW, "ip", "link", "add", "bridge0", "type", "bridge"], capture_output=True, text=True)
    return [f"namespaces and bridges: {tried.stderr.strip()}"] if tried.returncode else []


@dataclass(slots=True)
class Space:
    """Namespaces with their first process.

    Attributes:
        outer: The process here that holds them.
        init: Their first process, PID 1 inside, by its PID here.
        inodes: Kind of namespace -> its number.
    """

    outer: "subprocess.Popen[str]"
    init: int
    inodes: Mapping[str, str]

    @classmethod
    def make(cls, command: list[str], environment: Mapping[str, str]) -> Self:
        """Starts `command`, which makes them, says `ready` and stays.

        Raises:
            RuntimeError: It could not.
        """
        outer = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
        )
        assert outer.stdout is not None
        said = ""
        while not said.endswith("ready\n"):
            line = outer.stdout.readline()
            if not line:
                outer.stdout.close()
                outer.wait()
                raise RuntimeError(f"expected namespaces, but got: {said or 'nothing'}")
            said += line
        inits = [child.pid for child in psutil.Process(outer.pid).children(recursive=True) if is_init(child.pid)]
        return cls(outer, inits[-1], namespaces_of(inits[-1]))

    def end(self) -> None:
        """Ends all processes inside at once, as a power cut does."""
        if psutil.pid_exists(self.init) and namespaces_of(self.init) == self.inodes:
            os.kill(self.init, signal.SIGKILL)
        self.outer.wait(timeout=PATIENCE_S)
        assert self.outer.stdout is not None
        self.outer.stdout.close()


@dataclass(slots=True)
class Host:
    """One machine of the lab; `space` is None while it is switched off."""

    name: str
    address: str
    link: str
    space: Space | None = None

    def processes(self) -> list[psutil.Process]:
        """Returns the processes that live on it, those that hold it together left out."""
        if self.space is None:
            return []
        return [one for one in members(self.space.inodes["pid"]) if one.pid != self.space.init]


class Lab:
    """The hosts, their network and their storage; a context manager.

    Args:
        kept: Folders that all hosts see as they are.
        storage_bytes: Size of the storage.
        hosts: How many.
    """

    def __init__(self, kept: list[Path], storage_bytes: int, hosts: int = 3) -> None:
        self.kept = [path for path in kept if path.is_relative_to("/tmp") or path.is_relative_to("/mnt")]
        self.storage_bytes = storage_bytes
        self.hosts = [Host(f"lab-{i}", f"10.200.0.{11 + i}", f"veth{i}") for i in range(hosts)]
        self.hub: Space | None = None
        self.seen: list[Mapping[str, str]] = []  # namespaces of all that ever was in it
        self.started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            settings = {"KEPT": " ".join(map(str, self.kept)), "STORAGE_BYTES": str(self.storage_bytes)}
            self.hub = Space.make(["setpriv", "--pdeathsig", "KILL", *NEW, "bash", "-c", HUB], settings)
            self.seen.append(self.hub.inodes)
            for host in self.hosts:
                self.up(host)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything; returns when nothing is left, or gives up."""
        if self.hub is not None:
            self.hub.end()
        for host in self.hosts:
            if host.space is not None:
                host.space.end()
        for process in self.started:
            process.wait(timeout=PATIENCE_S)
        until_s = time.monotonic() + PATIENCE_S
        while (self.processes_left() or self.namespaces_left()) and time.monotonic() < until_s:
            time.sleep(POLL_S)

    def processes_left(self) -> list[str]:
        """Returns the processes that live in any namespace that the lab ever had."""
        ours = {inodes["pid"] for inodes in self.seen}
        return [f"{one.pid} {' '.join(cmdline(one))}" for inode in ours for one in members(inode)]

    def namespaces_left(self) -> list[str]:
        """Returns the namespaces of the lab that some process or mount of the machine still holds."""
        return still_held(inode for inodes in self.seen for inode in inodes.values())

    def up(self, host: Host) -> None:
        """Switches a host on: a new machine at its address, with empty disks."""
        assert self.hub is not None and host.space is None
        kept = [str(path) for path in self.kept if path.is_relative_to("/tmp")]
        settings = {"NAME": host.name, "ADDRESS": host.address, "KEPT": " ".join(kept)}
        host.space = Space.make([*self.enter(), *NEW, "bash", "-c", HOST], settings)
        self.seen.append(host.space.inodes)
        self.hub_net("ip", "link", "add", host.link, "type", "veth", "peer", "eth0", "netns", str(host.space.init))
        self.hub_net("ip", "link", "set", host.link, "master", "bridge0", "up")
        net = f"--net=/proc/{host.space.init}/ns/net"
        for words in (["address", "add", f"{host.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            subprocess.run(["nsenter", net, "ip", *words], check=True)
        self.wait_until(lambda: self.run(host, "true", check=False).returncode == 0, f"ssh to {host.name}")

    def down(self, host: Host) -> None:
        """Switches a host off at once; what was on its own disks is lost."""
        assert host.space is not None
        host.space.end()
        host.space = None
        self.wait_until(lambda: self.hub_net("ip", "link", "show", host.link, check=False) != 0, "its link")

    def cut(self, host: Host) -> None:
        """Pulls a host's network cable; what runs there goes on."""
        self.hub_net("ip", "link", "set", host.link, "down")

    def restore(self, host: Host) -> None:
        """Puts the cable back."""
        self.hub_net("ip", "link", "set", host.link, "up")

    def kill_ray(self, host: Host) -> list[str]:
        """Kills all of Ray's own processes of a host (not what they started); returns their names."""
        names = []
        for one in host.processes():
            command = " ".join(cmdline(one))
            if re.search(r"raylet/raylet|gcs_server|/ray/(dashboard|_private|autoscaler)/|^ray::", command):
                names.append(command.split(" ")[0])
                one.kill()
        return names

    def fill(self) -> None:
        """Takes all the room of the storage."""
        with (self.inside(STORAGE) / "filler").open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(1 << 20))
            except OSError:
                return

    def free(self) -> None:
        """Gives the room back."""
        (self.inside(STORAGE) / "filler").unlink()

    def inside(self, path: Path) -> Path:
        """Returns where a path of the hub is to be found from outside."""
        assert self.hub is not None
        return Path(f"/proc/{self.hub.init}/root{path}")

    def run(self, host: Host, command: str, *, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs a command on a host over SSH."""
        return self.operate(shlex.join(ssh(host, command)), check=check)

    def start(self, command: str, log: Path) -> "subprocess.Popen[bytes]":
        """Starts a command in the hub; it ends with the lab at the latest. `log` is outside."""
        with log.open("ab") as stream:
            process = subprocess.Popen(self.operator(command), stdout=stream, stderr=subprocess.STDOUT)
        self.started.append(process)
        return process

    def operate(self, command: str, *, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs a command in the hub, as who set up the cluster does.

        Raises:
            RuntimeError: It failed, and `check` is true.
        """
        done = subprocess.run(
            self.operator(command), capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL
        )
        if check and done.returncode:
            raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def operator(self, command: str) -> list[str]:
        """Returns how a command of the operator is started: with a home and an environment of its own."""
        path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        clean = ["env", "-i", f"HOME={OPERATOR}", f"PATH={path}", "LANG=C.UTF-8", "TERM=dumb"]
        return [*self.enter(), *clean, "bash", "-c", f"cd {OPERATOR} && {command}"]

    def enter(self) -> list[str]:
        """Returns the words before a command that is to run in the hub."""
        assert self.hub is not None
        flags = [f"--{kind}" for kind in ("pid", "net", "mount", "uts", "ipc")]
        return ["nsenter", f"--target={self.hub.init}", *flags]

    def hub_net(self, *command: str, check: bool = True) -> int:
        """Runs a command in the hub's network alone, with PIDs as they are here."""
        assert self.hub is not None
        net = f"--net=/proc/{self.hub.init}/ns/net"
        return subprocess.run(["nsenter", net, *command], check=check, capture_output=not check).returncode

    @staticmethod
    def wait_until(condition: Callable[[], object], what: str) -> None:
        """Waits for something to become true.

        Raises:
            TimeoutError: It did not.
        """
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end_s:
                raise TimeoutError(f"waited {PATIENCE_S:g} s for {what}")
            time.sleep(POLL_S)


def ssh(host: Host, command: str) -> list[str]:
    """Returns the command that runs another one on a host."""
    quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    patience = ["-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
    return ["ssh", "-i", f"{OPERATOR}/key", *quiet, *patience, f"root@{host.address}", command]


def namespaces_of(pid: int) -> dict[str, str]:
    """Returns the namespaces of a process; none if it is gone."""
    try:
        return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in SPACES}
    except OSError:
        return {}


def still_held(inodes: Iterable[str]) -> list[str]:
    """Returns those namespaces that a living process is in, or that are mounted somewhere under a name."""
    held = {inode for pid in psutil.pids() for inode in namespaces_of(pid).values()}
    held |= set(re.findall(r"(?:net|pid|mnt|uts|ipc):\[\d+\]", Path("/proc/self/mountinfo").read_text()))
    return sorted(held.intersection(inodes))


def members(inode: str) -> list[psutil.Process]:
    """Returns the living processes of a PID namespace."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if os.readlink(f"/proc/{pid}/ns/pid") == inode and not is_gone(one := psutil.Process(pid)):
                found.append(one)
    return found


def is_gone(process: psutil.Process) -> bool:
    """Tells whether a process has ended, also where nobody has asked for its exit status yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_init(pid: int) -> bool:
    """Tells whether a process is the first one of its PID namespace."""
    status = Path(f"/proc/{pid}/status").read_text()
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return len(numbers) > 1 and numbers[-1] == "1"


def cmdline(process: psutil.Process) -> list[str]:
    """Returns a process's command line; empty if it is gone."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def main() -> None:
    """Holds a lab for trying things by hand, until Ctrl-C; its first line names the namespaces, as JSON."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's `&` starts its processes with it ignored
    with Lab([ROOT], 1 << 30) as lab:
        print(json.dumps([dict(inodes) for inodes in lab.seen]), flush=True)
        print("in the hub:", shlex.join([*lab.enter(), "bash"]))
        for host in lab.hosts:
            print(f"on {host.name}, from the hub:", shlex.join(ssh(host, "bash")), flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
