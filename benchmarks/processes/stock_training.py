"""The peer: trains a config as MMDetection's and MMSegmentation's own tools do, in a process of its own.

python benchmarks/processes/stock_training.py CONFIG FOLDER THREADS

FOLDER holds iteration_clock.py and gets what the training writes.
"""

import sys

import torch
from mmengine.config import Config
from mmengine.runner import Runner


def main() -> None:
    """Trains to the end of the config's plan."""
    path, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    sys.path.insert(0, folder)
    import iteration_clock  # noqa: F401

    config = Config.fromfile(path)
    config.work_dir = folder
    Runner.from_cfg(config).train()


if __name__ == "__main__":
    main()
