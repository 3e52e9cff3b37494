"""A Ray cluster in a lab, a sweep's data on its storage, an MLflow server beside it, and drivers on its head."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from segdata.coco import read_coco
from segdata.labelmaps import coco_to_labelmaps
from segsweep.run_folder import RunFolder
from segsweep.search.study import TrialRecord, trial_records
from tests.cluster.lab import HUB_ADDRESS, OPERATOR, PATIENCE_S, ROOT, STORAGE, Host, Lab, cmdline, members, ssh

__all__ = ["Cluster", "Driver", "edited"]

ON_PREM = ROOT / "cluster" / "on_prem.yaml"
MARK = "# edit:"
# One trial a host at a time; the last host says that it has a GPU.
ONE_TRIAL = "--num-cpus=1 $(test $(hostname) != lab-2 || echo --num-gpus=1)"
MLFLOW_PORT = 5000
DASHBOARD_PORT = 8265
DASHBOARD = f"http://127.0.0.1:{DASHBOARD_PORT}"
TRAIN_IMAGES, VAL_IMAGES = 16, 4
TINY = {
    "model": "segformer",
    "backbone": "mit-b0",
    "init": "none",
    "image_width": 128,
    "image_height": 128,
    "crop_size": 96,
    "optimizer": "adamw",
    "epochs": 4,
    "batch_size": 4,
}


@dataclass(frozen=True, slots=True)
class Driver:
    """A `segsweep` command on the head, followed over SSH; its output lies in two files."""

    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    def wait(self) -> int:
        """Returns the exit code."""
        return self.process.wait(timeout=2 * PATIENCE_S)

    def told(self) -> str:
        """Returns what it said."""
        return f"exit code {self.process.returncode}\n{self.out.read_text()}\n{self.err.read_text()}"


class Cluster:
    """Brings up Ray by `cluster/on_prem.yaml`, and runs sweeps on it.

    Args:
        lab: The hosts; the first one is the head.
        logs: A folder outside for the output of commands.
    """

    def __init__(self, lab: Lab, logs: Path) -> None:
        self.lab, self.logs = lab, logs
        self.head = lab.hosts[0]
        self.commands = 0

    def bring_up(self, head: Host, workers: Sequence[Host], options: str = ONE_TRIAL) -> None:
        """Does what a user does: edits the marked lines, makes a token once, `ray up`; waits for all nodes.

        Args:
            head: The host that drives, and trains.
            workers: The others.
            options: More for `ray start`, as the shell of each host reads it.
        """
        self.head = head
        (self.lab.inside(OPERATOR) / "on_prem.yaml").write_text(
            edited(
                ON_PREM.read_text(),
                {
                    "head_ip:": f"  head_ip: {head.address}",
                    "worker_ips:": f"  worker_ips: [{', '.join(host.address for host in workers)}]",
                    "ssh_user:": "  ssh_user: root",
                    "ssh_private_key:": f"  ssh_private_key: {OPERATOR}/key",
                    "SEGSWEEP=": f"  - echo 'SEGSWEEP={ROOT}' > ~/.segsweep_node",
                    "OPTIONS=": f"  - echo 'OPTIONS=\"{options}\"' >> ~/.segsweep_node",
                },
            )
        )
        self.lab.operate("ray get-auth-token --generate && ray up --yes on_prem.yaml")
        self.wait_for_nodes(1 + len(workers))

    def wait_for_nodes(self, count: int) -> None:
        """Waits until Ray counts so many nodes; it is asked once they run, since its answer takes seconds."""
        self.lab.wait_until(lambda: self.raylets() == count and self.nodes() == count, f"{count} nodes")

    def raylets(self) -> int:
        """Returns how many hosts run Ray."""
        return sum(
            any(word.endswith("/raylet") for one in host.processes() for word in cmdline(one)[:1])
            for host in self.lab.hosts
        )

    def nodes(self) -> int:
        """Returns how many nodes Ray knows to be alive."""
        told = self.lab.run(self.head, ". ~/.segsweep_node && ray status", check=False).stdout
        found = re.search(r"Active:\n((?: .*\n)+)", told)
        return sum(int(count) for count in re.findall(r"^ (\d+) ", found[1], re.MULTILINE)) if found else 0

    def start_mlflow(self) -> None:
        """Starts the server at the hub, on the lab's own network alone."""
        store = f"--backend-store-uri sqlite:///{OPERATOR}/mlflow.db --artifacts-destination {OPERATOR}/artifacts"
        server = f"mlflow server --host {HUB_ADDRESS} --port {MLFLOW_PORT} --workers 1 {store}"
        quiet = "MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"
        self.lab.start(f"exec env {quiet} {server}", self.logs / "mlflow.log")
        asked = f"true < /dev/tcp/{HUB_ADDRESS}/{MLFLOW_PORT}"
        self.lab.wait_until(lambda: self.lab.operate(asked, check=False).returncode == 0, "the MLflow server")

    def stop_mlflow(self) -> None:
        """Ends the server at once."""
        self.end_in_hub("mlflow")

    def end_in_hub(self, word: str) -> None:
        """Kills what runs in the hub with that in a word of its command."""
        assert self.lab.hub is not None
        for process in members(self.lab.hub.inodes["pid"]):
            if any(word in one for one in cmdline(process)):
                process.kill()

    def write_data(self, real_data: Path) -> None:
        """Puts real labelled photos on the storage."""
        source, target = real_data / "trashbags", self.lab.inside(STORAGE) / "data"
        whole = read_coco(source / "valid.json")
        names = sorted(image.file_name for image in whole.images)
        parts = {"train": names[:TRAIN_IMAGES], "val": names[TRAIN_IMAGES : TRAIN_IMAGES + VAL_IMAGES]}
        for role, part in parts.items():
            (target / role).mkdir(parents=True)
            for name in part:
                shutil.copy(source / "valid" / name, target / role / name)
            coco_to_labelmaps(whole.subset(part), target / f"{role}_labels")

    def write_sweep(self, name: str, **keys: Any) -> None:
        """Writes a sweep file to the storage: tiny, real training, two trials at a time."""
        values = {
            "name": name,
            "project": "lab",
            "task": "semantic",
            "data": {role: {"images": f"data/{role}", "labels": f"data/{role}_labels"} for role in ("train", "val")},
            "metric": "mIoU",
            "search": {"sampler": "random", "scheduler": "none"},
            "budget": {"trials": 2, "concurrent": 2},
            "resources": {"cpu": 1, "gpu": 0},
            "space": {"lr": {"float": [1e-4, 1e-3], "log": True}},
            "fixed": TINY,
            "storage": {"path": "runs", "keep_checkpoints": 2},
            "tracking": {"uri": f"http://{HUB_ADDRESS}:{MLFLOW_PORT}"},
        }
        (self.lab.inside(STORAGE) / f"{name}.yaml").write_text(yaml.safe_dump(values | keys))

    def drive(self, *words: str) -> Driver:
        """Starts `segsweep WORDS --address auto --json` on the head."""
        return self.start(f"exec segsweep {shlex.join(words)} --address auto --json")

    def start(self, command: str) -> Driver:
        """Starts a shell command on the head, in the storage."""
        self.commands += 1
        out, err = (self.logs / f"driver-{self.commands:02d}.{kind}" for kind in ("out", "err"))
        command = f". ~/.segsweep_node && cd {STORAGE} && {command}"
        with out.open("wb") as told, err.open("wb") as shown:
            whole = self.lab.operator(f"exec {shlex.join(ssh(self.head, command))}")
            process = subprocess.Popen(whole, stdout=told, stderr=shown, stdin=subprocess.DEVNULL)
        self.lab.started.append(process)
        return Driver(process, out, err)

    def submit(self, job: str, *words: str) -> None:
        """Submits `segsweep WORDS --address auto` as a job, through a tunnel that is closed right afterwards."""
        log = self.logs / f"{job}.log"
        tunnel = self.lab.start("exec ray dashboard on_prem.yaml", log)
        try:
            asked = f"true < /dev/tcp/127.0.0.1/{DASHBOARD_PORT}"
            self.lab.wait_until(lambda: self.lab.operate(asked, check=False).returncode == 0, "the tunnel")
            command = f"segsweep {shlex.join(words)} --address auto"
            self.lab.operate(
                f"RAY_AUTH_MODE=token ray job submit --no-wait --submission-id {job} --address {DASHBOARD} -- {command}"
            )
        finally:
            self.end_in_hub(f"{DASHBOARD_PORT}:")
            tunnel.wait(timeout=PATIENCE_S)

    def job_status(self, job: str) -> str:
        """Returns what Ray on the head says of a job."""
        asked = f". ~/.segsweep_node && ray job status {job} --address {DASHBOARD}"
        return self.lab.run(self.head, asked).stdout

    def driver_process(self) -> psutil.Process:
        """Returns the driver's own process on the head."""
        for process in self.head.processes():
            words = cmdline(process)
            if len(words) > 2 and words[1].endswith("/bin/segsweep"):
                return process
        raise LookupError("no driver runs")

    def run_folder(self, name: str) -> RunFolder:
        """Returns a sweep's folder, as it is to be found from outside."""
        return RunFolder(self.lab.inside(STORAGE) / "runs" / name)

    def records(self, name: str) -> tuple[TrialRecord, ...]:
        """Returns what a sweep's study says."""
        return trial_records(self.run_folder(name).study())

    def trainers(self) -> list[tuple[int, Host, psutil.Process]]:
        """Returns which trials train now, where and by which process; a host that is cut off may have one twice."""
        found = []
        for host in self.lab.hosts:
            for process in host.processes():
                with contextlib.suppress(OSError):
                    log = os.readlink(f"/proc/{process.pid}/fd/1")
                    if match := re.search(r"/trials/(\d{4})/train\.log$", log):
                        found.append((int(match[1]), host, process))
        return found


def edited(text: str, changes: Mapping[str, str]) -> str:
    """Puts new lines in the place of marked ones.

    Args:
        text: Of the YAML.
        changes: What a marked line holds -> the line in its place.

    Raises:
        LookupError: A change does not meet exactly one line, or that is not marked.
    """
    lines = text.splitlines()
    for part, new in changes.items():
        places = [place for place, line in enumerate(lines) if part in line and MARK in line]
        if len(places) != 1:
            raise LookupError(f"expected one marked line with {part!r}, but got {len(places)}")
        lines[places[0]] = new
    return "\n".join(lines) + "\n"
