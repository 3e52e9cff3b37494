"""A bar on standard error for work that goes image by image; nothing where no terminal is. Imports rich."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

__all__ = ["image_progress"]


@contextmanager
def image_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Gives what is to be called after each image with (done, total)."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
