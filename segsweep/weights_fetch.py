"""Fetching all that a sweep can need before its trials start: one file after the other, what fails is said at the end.

Imports the downloads and what a sweep's trials start from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from segdata.errors import InputError, SegsweepError
from segsweep.downloads import ByteCount, Patience, fetch_file
from segsweep.initial_weights import Needed
from trainables.published_file import PublishedFile

__all__ = ["Row", "fetch_all"]

State = Literal["present", "fetched", "resumed", "replaced", "failed"]

# The zoos' files lie on both hosts under the same paths; either may be away.
HOSTS = {"mmassets.onedl.ai": "download.openmmlab.com", "download.openmmlab.com": "mmassets.onedl.ai"}


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one file; `problem` is the message if it failed."""

    file: str
    bytes: int | None
    source: str
    state: State
    needed_by: tuple[str, ...]
    problem: str = ""


def fetch_all(
    needed: Mapping[str, Needed], folder: Path, mirror: str | None, console: Console, patience: Patience | None = None
) -> tuple[Row, ...]:
    """Makes sure that every file lies in `folder`; goes on with the others where one fails.

    Args:
        needed: The files by name.
        folder: Where to.
        mirror: Serves them below this URL by their names; None = their authors.
        console: Where progress is shown.
        patience: With servers.
    """
    require_url(mirror)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    rows = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for count, entry in enumerate(needed.values(), start=1):
            title = f"[{count}/{len(needed)}] {entry.file.name}"
            if not console.is_terminal:
                console.print(title, highlight=False, markup=False)
            rows.append(fetch_row(entry, folder, mirror, shown(progress, title), patience))
    return tuple(rows)


def require_url(mirror: str | None) -> None:
    """Refuses a mirror that is no web address.

    Raises:
        InputError: Names it.
    """
    if mirror is not None and not is_url(mirror):
        raise InputError.of(
            f"expected a URL below which files lie by their names, but got {mirror!r}",
            where="mirror",
            cure="Write http://... or https://...; a folder of files is named by SEGSWEEP_WEIGHTS.",
        )


def is_url(text: str) -> bool:
    """Tells a web address with a host, a port that is a number, and nothing behind its path."""
    try:
        url = urlparse(text)
        numbered = url.port is None or url.port > 0
    except ValueError:
        return False
    return url.scheme in ("http", "https") and bool(url.hostname) and numbered and not (url.query or url.fragment)


def shown(progress: Progress, title: str) -> ByteCount:
    """Returns a function that moves a new bar."""
    bar = progress.add_task(escape(title), total=None)

    def move(done_bytes: int, total_bytes: int | None) -> None:
        progress.update(bar, completed=done_bytes, total=total_bytes)

    return move


def fetch_row(entry: Needed, folder: Path, mirror: str | None, count: ByteCount, patience: Patience | None) -> Row:
    """Fetches one file from the first of its places that has it."""
    problems: list[str] = []
    places = places_of(entry.file, mirror)
    for file in places:
        try:
            state = fetch_file(file, folder, progress=count, patience=patience)
        except InputError:  # the folder is wrong, not the file
            raise
        except SegsweepError as error:
            problems.append(str(error))
            continue
        size = (folder / file.name).stat().st_size
        return Row(file.name, size, urlparse(file.url).netloc, state, tuple(entry.by))
    return Row(entry.file.name, None, urlparse(places[0].url).netloc, "failed", tuple(entry.by), problems[0])


def places_of(file: PublishedFile, mirror: str | None) -> Sequence[PublishedFile]:
    """Returns where a file can be had: the mirror alone if there is one, else its own host and that host's twin."""
    if mirror is not None:
        return (file.at(mirror),)
    url = urlparse(file.url)
    twin = HOSTS.get(url.netloc)
    if twin is None:
        return (file,)
    return file, PublishedFile(file.name, url._replace(netloc=twin).geturl(), file.sha256)
