"""What the fork server imports before its first child: the heavy packages, once.

Importing this room registers nothing and must not touch CUDA; `fork_server` names it, nothing else imports it.
Upstream prints remarks on optional packages while it is imported; they would land on the user's terminal.
"""

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    import mmdet.apis
    import mmdet.models
    import mmseg.apis
    import mmseg.models

    import trainables.predict
    import trainables.trial  # noqa: F401

__all__: list[str] = []
