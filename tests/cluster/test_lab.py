"""The lab itself: hosts that differ, a network that can be cut, a storage that fills up, and nothing left behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import HOME, ROOT, STORAGE, Lab, missing, ssh, still_held

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(missing()), reason=f"no lab can be made here; missing: {', '.join(missing())}"),
]

STORAGE_BYTES = 8 << 20


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab([ROOT], STORAGE_BYTES) as made:
        yield made
    assert made.processes_left() == [] and made.namespaces_left() == []


def test_hosts_have_names_homes_and_tmp_of_their_own_and_share_the_storage(lab: Lab) -> None:
    told = [lab.run(host, "hostname; echo $HOME; touch /tmp/$(hostname); ls /tmp").stdout.split() for host in lab.hosts]
    assert [words[0] for words in told] == ["lab-0", "lab-1", "lab-2"]
    for host, (name, home, *in_tmp) in zip(lab.hosts, told, strict=True):
        assert home == HOME and {other.name for other in lab.hosts}.intersection(in_tmp) == {name} == {host.name}
    lab.run(lab.hosts[0], f"echo shared > {STORAGE}/note")
    assert lab.run(lab.hosts[2], f"cat {STORAGE}/note").stdout == "shared\n"
    lab.run(lab.hosts[1], f"test -f {ROOT}/pyproject.toml")


def test_a_host_sees_no_process_of_another(lab: Lab, tmp_path: Path) -> None:
    first, second, _ = lab.hosts
    sleeper = lab.start(shlex.join(ssh(first, "sleep 1234.5")), tmp_path / "log")
    try:
        lab.wait_until(lambda: "1234.5" in lab.run(first, "ps ax -o args").stdout, "the sleeper")
        assert "1234.5" not in lab.run(second, "ps ax -o args").stdout
    finally:
        sleeper.kill()


def test_a_cut_host_does_not_answer_until_its_cable_is_back(lab: Lab) -> None:
    host = lab.hosts[1]
    lab.cut(host)
    assert lab.run(host, "true", check=False).returncode == 255
    lab.restore(host)
    assert lab.run(host, "true").returncode == 0
    assert lab.run(lab.hosts[2], "true").returncode == 0


def test_a_host_that_was_off_comes_back_with_empty_disks(lab: Lab) -> None:
    host = lab.hosts[2]
    lab.run(host, "touch ~/precious")
    lab.down(host)
    assert lab.run(host, "true", check=False).returncode == 255
    lab.up(host)
    assert lab.run(host, "ls ~").stdout == ""


def test_a_full_storage_takes_nothing_more(lab: Lab) -> None:
    write = f"echo more > {STORAGE}/more"
    lab.fill()
    assert "No space left" in lab.run(lab.hosts[0], write, check=False).stderr
    lab.free()
    lab.run(lab.hosts[0], write)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_lab_whose_maker_is_ended(number: signal.Signals) -> None:
    script = ROOT / "tests" / "cluster" / "lab.py"
    words = [sys.executable, script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as maker:
        assert maker.stdout is not None
        spaces = [inode for inodes in json.loads(maker.stdout.readline()) for inode in inodes.values()]
        assert len(still_held(spaces)) == len(spaces) == 4 * 5
        os.kill(maker.pid, number)
    Lab.wait_until(lambda: not still_held(spaces), "the end of the lab")
