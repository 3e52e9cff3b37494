"""`python -m segsweep`: the same as the `segsweep` command, with the current folder taken off the module path first.

Otherwise an `ensembling.py` or `metrics.py` in the user's folder would take the place of ours.
"""

import os
import sys

sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]

from segsweep.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
