"""What is wrong with a cluster is said before anything is begun: in one line, with the machine's name and the cure.

Each harm is done on one host, in what that host alone sees, and is undone at the end of its test.
"""

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path

import pytest
import ray

from tests.cluster.checks import mlflow_runs, trial_processes
from tests.cluster.cluster import VAL_IMAGES, Cluster
from tests.cluster.lab import OPERATOR, PATIENCE_S, ROOT, STORAGE, Host

pytestmark = [pytest.mark.lab, pytest.mark.timeout(4 * PATIENCE_S)]

SWEEP = "bad"
CHECK = f"segsweep check {SWEEP}.yaml --address auto"
RUN = f"segsweep run {SWEEP}.yaml --address auto"
NOBODY = "10.200.0.99"  # no machine has this address
BOOTSTRAP = "~/ray_bootstrap_config.yaml"


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Cluster:
    """The cluster, with a sweep file that nothing is wrong with."""
    cluster.write_sweep(SWEEP)
    return cluster


def test_versions_that_differ_are_named_by_node(site: Cluster) -> None:
    _, first, second = site.lab.hosts
    with ExitStack() as harms:
        harms.enter_context(changed(site, first, ROOT / "segsweep" / "demo.py", "$ a # changed here"))
        harms.enter_context(changed(site, second, metadata_of("torch"), "s/^Version: .*/Version: 2.0.1/"))
        said = refused(site, CHECK)
    assert "expected the driver's versions on all nodes, but" in said
    assert f"node {first.name} has other source files of segsweep {metadata.version('segsweep')} (digest " in said
    assert f"node {second.name} has torch 2.0.1 (here {metadata.version('torch').partition('+')[0]})" in said
    assert f"node {site.head.name}" not in said and "Set all nodes up from one image" in said


def test_images_that_one_node_lacks(site: Cluster) -> None:
    host = site.lab.hosts[1]
    with hidden(site, host, STORAGE / "data" / "val"):
        said = refused(site, CHECK)
    assert (
        f"error: node {host.name}: expected the {VAL_IMAGES} files of the images of val in {STORAGE}/data/val, "
        f"but {VAL_IMAGES} are missing, such as " in said
    )
    assert said.count("node lab-") == 1 and "files at the same path, or on a file system that all share" in said


def test_a_storage_that_is_not_shared(site: Cluster) -> None:
    host = site.lab.hosts[2]
    with hidden(site, host, STORAGE):
        said = refused(site, RUN)
    assert said.startswith(
        f"error: {STORAGE}/runs: expected a folder that all nodes share, but node {host.name} does not see what the "
        "driver writes there. Mount the same file system (NFS, "
    )
    assert said.count("node lab-") == 1


def test_a_token_that_is_no_longer_the_clusters(site: Cluster) -> None:
    """Someone has made a new one; the cluster runs with the one that it was started with. Ray tries for 20 s."""
    site.lab.run(site.head, "printf %064d 7 > ~/new_token && chmod 600 ~/new_token")
    said = refused(site, f"RAY_gcs_server_port_wait_time_s=3 RAY_AUTH_TOKEN_PATH=~/new_token {CHECK}")
    assert "auto: expected a Ray cluster that lets us in, but got none (the token is that in /" in said
    assert "/new_token). " in said and "copy it from the head node" in said and "0007" not in said


def test_an_address_where_no_machine_is(site: Cluster) -> None:
    said = refused(site, CHECK.replace("auto", f"{NOBODY}:6379"))
    assert said == f"error: {NOBODY}:6379: expected a running Ray cluster, but nothing answers. Check --address.\n"


def test_a_driver_with_another_ray(site: Cluster) -> None:
    file = Path(ray.__file__).with_name("_version.py")
    edit = f"sed 's/^version = .*/version = \"2.50.0\"/' {file} > ~/other.py && mount --bind ~/other.py {file}"
    said = refused(site, f"exec unshare --mount sh -c {shlex.quote(f'{edit} && exec {CHECK}')}")
    assert f"auto: expected the cluster's versions here, Ray {ray.__version__} and Python 3." in said
    assert "but got Ray 2.50.0 and Python 3." in said and "Run from the same image or checkout" in said


def test_a_machine_with_another_ray_does_not_join(site: Cluster) -> None:
    host = site.lab.hosts[1]
    file = Path(ray.__file__).with_name("_version.py")
    join = f". ~/.segsweep_node && ray start --address={site.head.address}:6379"
    with changed(site, host, file, 's/^version = .*/version = "2.50.0"/'):
        tried = site.lab.run(host, join, check=False)
    assert tried.returncode != 0
    assert "Version mismatch" in tried.stderr and f"Ray: {ray.__version__}" in tried.stderr
    assert "Ray: 2.50.0" in tried.stderr


def test_a_machine_that_did_not_come_up_is_named_and_the_work_goes_on(site: Cluster) -> None:
    """The driver alone sees a file that names one machine more; the autoscaler would try for minutes to start it."""
    config = json.loads(site.lab.run(site.head, f"cat {BOOTSTRAP}").stdout)
    config["provider"]["worker_ips"].append(NOBODY)
    config["available_node_types"][config["head_node_type"]]["min_workers"] += 1
    site.lab.run(site.head, f"echo {shlex.quote(json.dumps(config))} > ~/one_more.yaml")
    script = f"mount --bind ~/one_more.yaml {BOOTSTRAP} && exec {CHECK}"
    driver = site.start(f"exec unshare --mount sh -c {shlex.quote(script)}")
    assert driver.wait() == 0, driver.told()
    told = driver.out.read_text()
    assert f"warning: {NOBODY} of the cluster's worker_ips is not up; this goes on without" in told
    assert "checking 3 nodes of the cluster" in told and f"{SWEEP}.yaml: fine." in told
    nothing_is_left(site)


def test_doctor_asks_the_machines_of_a_cluster_file(site: Cluster) -> None:
    assert doctor(site, "on_prem.yaml") == (
        0,
        {"key": "ok"} | {f"{role} {host.address}": "ok" for role, host in roles(site)},
        {"key": f"{OPERATOR}/key"} | {f"{role} {host.address}": "lets root in" for role, host in roles(site)},
    )


def test_doctor_names_machines_that_do_not_answer_and_those_that_want_another_key(site: Cluster) -> None:
    folder = site.lab.inside(OPERATOR)
    last = site.lab.hosts[2]
    site.lab.operate("ssh-keygen -q -t ed25519 -N '' -f other_key")
    text = (folder / "on_prem.yaml").read_text()
    assert last.address in text and f"{OPERATOR}/key" in text
    text = text.replace(last.address, NOBODY).replace(f"{OPERATOR}/key", f"{OPERATOR}/other_key")
    (folder / "wrong.yaml").write_text(text)
    exit_code, status, found = doctor(site, "wrong.yaml")
    assert exit_code == 1 and status.pop("key") == "ok" and set(status.values()) == {"fail"}
    assert found[f"worker {NOBODY}"].startswith(f"no answer: connect to host {NOBODY} port 22: ")
    for role, host in roles(site)[:2]:
        assert found[f"{role} {host.address}"] == f"does not let root in with {OPERATOR}/other_key"


def test_doctor_warns_of_a_host_key_that_has_changed(site: Cluster) -> None:
    host = site.lab.hosts[1]
    site.lab.operate("mkdir .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/stranger")
    site.lab.operate(f"echo {host.address} $(cat .ssh/stranger.pub) > .ssh/known_hosts")
    try:
        exit_code, status, found = doctor(site, "on_prem.yaml")
    finally:
        site.lab.operate("rm -r .ssh")
    assert exit_code == 0 and Counter(status.values()) == {"ok": 3, "warn": 1}
    told = "lets root in, but its host key is not the one in known_hosts"
    assert found[f"worker {host.address}"] == told


def refused(cluster: Cluster, command: str) -> str:
    """Runs a command on the head; returns the one line that it is refused with."""
    driver = cluster.start(command)
    assert driver.wait() == 2, driver.told()
    said = driver.err.read_text()
    assert said.startswith("error: ") and said.count("\n") == 1, driver.told()
    nothing_is_left(cluster)
    return said


def nothing_is_left(cluster: Cluster) -> None:
    """Asserts that no folder, run or process of the sweep is there."""
    assert {path.name for path in cluster.lab.inside(STORAGE).iterdir()} == {"data", f"{SWEEP}.yaml"}
    assert mlflow_runs(cluster, SWEEP)[1] == []
    cluster.lab.wait_until(lambda: not trial_processes(cluster), f"the end of {trial_processes(cluster)}")


@contextmanager
def changed(cluster: Cluster, host: Host, file: Path, edit: str) -> Iterator[None]:
    """Has one host see a file of the checkout as `sed` edits it; the file itself stays as it is."""
    other = f"/tmp/{file.name}"
    cluster.lab.run(host, f"sed {shlex.quote(edit)} {file} > {other} && mount --bind {other} {file}")
    try:
        yield
    finally:
        cluster.lab.run(host, f"umount {file} && rm {other}")


@contextmanager
def hidden(cluster: Cluster, host: Host, folder: Path) -> Iterator[None]:
    """Has one host see an empty folder, as if nothing were mounted there."""
    cluster.lab.run(host, f"mount -t tmpfs tmpfs {folder}")
    try:
        yield
    finally:
        cluster.lab.run(host, f"umount {folder}")


def metadata_of(distribution: str) -> Path:
    """Returns the file that holds the version of an installed distribution."""
    return next(
        Path(str(path.locate()))
        for path in metadata.files(distribution) or ()
        if path.name == "METADATA" and path.parent.name.endswith(".dist-info")
    )


def roles(cluster: Cluster) -> list[tuple[str, Host]]:
    """Returns the hosts with what they are in the cluster file."""
    return [("head" if host is cluster.head else "worker", host) for host in cluster.lab.hosts]


def doctor(cluster: Cluster, file: str) -> tuple[int, dict[str, str], dict[str, str]]:
    """Asks as the operator; returns the exit code, and status and finding by row."""
    done = cluster.lab.operate(f"segsweep doctor --cluster {file} --json", check=False)
    rows = json.loads(done.stdout)["checks"]
    return done.returncode, {row["name"]: row["status"] for row in rows}, {row["name"]: row["found"] for row in rows}
