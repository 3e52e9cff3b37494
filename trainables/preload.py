"""What the fork server imports before its first child: the heavy packages, once.

Importing this room registers nothing and must not touch CUDA; `fork_server` names it, nothing else imports it.
Upstream prints remarks on optional packages while it is imported; they would land on the user's terminal. An error
here would end the server, or be dropped by multiprocessing: it is kept in `FAILURE`, and every child reports it.

What is imported is taken out of garbage collection. In a child, a collection would write into each object and so copy
all pages that it shares with the server (0.7 s and 144 MiB of a small SegFormer's start).
"""

import contextlib
import gc
import io
import traceback

__all__ = ["FAILURE"]

FAILURE: str | None = None

try:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import mmdet.apis
        import mmdet.engine
        import mmdet.models
        import mmdet.visualization  # noqa: F401
        import mmseg.apis
        import mmseg.engine
        import mmseg.evaluation
        import mmseg.models  # noqa: F401
        import yapf.yapflib.yapf_api  # noqa: F401

        import trainables.networks.smp_model
        import trainables.predict
        import trainables.trial  # noqa: F401
except Exception:
    FAILURE = traceback.format_exc()
gc.collect()
gc.freeze()
