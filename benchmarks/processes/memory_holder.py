"""Holds a GPU's memory but for some bytes, says so, and stays until it is ended.

python benchmarks/processes/memory_holder.py BYTES
"""

import sys
import time

import torch


def main() -> None:
    """Takes plain memory of the first GPU."""
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - int(sys.argv[1])), dtype=torch.uint8, device="cuda")
    print(held.numel(), flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    main()
