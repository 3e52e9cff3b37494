"""Small questions to this machine that a child process answers, since asking may crash: a mmcv built for another
torch, a broken driver, a Ray that does not start. Imports nothing of ours and nothing heavy.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["GPU", "MODELS", "OPS", "RAY", "RAY_START", "TORCH", "ProbeError", "probe"]

TIMEOUT_S = 180

TORCH = """
import json, torch, torchvision
print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__}))
"""
GPU = """
import ctypes, json, warnings
import torch
driver = ctypes.c_int(0)
try:
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(driver))
except OSError:
    pass
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
gpus = []
for i in range(count):
    about = torch.cuda.get_device_properties(i)
    torch.ones(8, device=f"cuda:{i}").sum().item()
    gpus.append({"name": about.name, "memory": about.total_memory})
print(json.dumps({"torch_cuda": torch.version.cuda, "driver_cuda": driver.value, "gpus": gpus}))
"""
OPS = """
import json
import torch
from mmcv.ops import get_compiling_cuda_version, nms
cuda, gpu = get_compiling_cuda_version(), torch.cuda.is_available()
for device in ["cpu"] + ["cuda"] * (gpu and cuda != "not available"):
    nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=device), torch.tensor([0.5], device=device), 0.5)
print(json.dumps({"cuda": cuda, "gpu": gpu}))
"""
MODELS = """
import json
import mmengine, mmcv, mmdet.apis, mmseg.apis, mmpretrain
versions = {p.__name__: p.__version__ for p in (mmengine, mmcv, mmdet, mmseg, mmpretrain)}
print(json.dumps(versions))
"""
RAY = """
import json, ray
print(json.dumps({"ray": ray.__version__}))
"""
RAY_START = """
import json, ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
one = ray.get(ray.remote(lambda: 1).remote(), timeout=120)
ray.shutdown()
print(json.dumps({"ray": ray.__version__, "one": one}))
"""


class ProbeError(Exception):
    """The child did not answer; the message is its last line, its signal, or that it took too long."""


def probe(code: str, timeout_s: float = TIMEOUT_S) -> Mapping[str, Any]:
    """Runs code in a child Python and returns the JSON object that it prints as a line of its own.

    The child does not look for modules in the working folder, where a user's `metrics.py` may lie.

    Raises:
        ProbeError: It crashed, raised, took longer than `timeout_s`, or printed no object.
    """
    command = [sys.executable, "-P", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"no answer within {timeout_s:g} s") from error
    if done.returncode < 0:
        raise ProbeError(f"crashed with signal {-done.returncode}")
    if done.returncode > 0:
        raise ProbeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not answers:
        raise ProbeError(f"expected a JSON object, but got {done.stdout[:80]!r}")
    answer: dict[str, Any] = json.loads(answers[-1])
    return answer
