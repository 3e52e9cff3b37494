"""Fetching one file over HTTP so that it ends as the right file or as one clear message.

Interrupted downloads go on where they stopped (a `.partial` file beside the target, locked by whoever writes it); the
file gets its name only once its length, its kind and, where it is known, its SHA-256 are right. Imports the standard
library and the record of a published file.
"""

import fcntl
import hashlib
import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from segdata.errors import InputError, SegsweepError
from trainables.published_file import PublishedFile, has_hash, kind_of

__all__ = ["ByteCount", "Patience", "fetch_file"]

State = Literal["present", "fetched", "resumed", "replaced"]

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 16
MARGIN_BYTES = 64 << 20  # left free on the disk
WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)
AGENT = {"User-Agent": "segsweep", "Accept-Encoding": "identity"}
SHA256 = re.compile(r"[0-9a-f]{64}")


class ByteCount(Protocol):
    """Is told how many bytes of how many are on disk (None = not known yet)."""

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server, in seconds, and how often to ask again without a byte gained."""

    timeout_s: float = 30.0
    tries: int = 5
    pause_s: float = 1.0  # doubled after each try

    def rest(self, failures: int) -> None:
        """Waits before the next try."""
        time.sleep(min(60.0, self.pause_s * 2 ** (failures - 1)))


class RetryError(Exception):
    """This try failed; another one may not."""


class RefusedError(Exception):
    """No further try would help."""


class WrongContentError(Exception):
    """The bytes are not those of the file."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said before the first byte: where its bytes start, the file's length, its SHA-256 if it says so."""

    start: int
    total: int | None
    sha256: str


class NotedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the hub of Hugging Face names a file's SHA-256 in the header of its redirect only."""

    def __init__(self) -> None:
        self.sha256 = ""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """See urllib."""
        self.sha256 = self.sha256 or sha256_of(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch_file(
    file: PublishedFile, folder: Path, *, progress: ByteCount | None = None, patience: Patience | None = None
) -> State:
    """Makes sure that `folder` holds the file, whole and right; two processes never download it both.

    Raises:
        InputError: The folder can't be written to.
        SegsweepError: The server does not give the file; a partial file stays if the next call can go on from it.
    """
    target = folder / file.name
    state: State = "fetched"
    if target.is_file():
        if has_hash(target, file.sha256):
            return "present"
        state = "replaced"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial_of(target) as partial:
            if partial is None or (state == "fetched" and target.is_file()):  # another process was faster
                return "present"
            resumed = size_of(partial) > 0
            download(file, partial, progress or (lambda done_bytes, total_bytes: None), patience or Patience())
            os.fsync(partial.fileno())
            os.replace(partial.name, target)
    except (RefusedError, RetryError) as error:
        raise SegsweepError.of(
            f"expected {file.name}, but {error}", where=file.url, cure=f"Try again, or copy the file to {target}."
        ) from error
    except OSError as error:
        raise InputError.of(
            f"expected a folder to write to, but got: {error.strerror}",
            where=folder,
            cure="Set SEGSWEEP_WEIGHTS, or weights.folder in the sweep file, to another one.",
        ) from error
    return "resumed" if resumed and state == "fetched" else state


@contextmanager
def partial_of(target: Path) -> Iterator[IO[bytes] | None]:
    """Opens and locks the partial file; gives None if the process that held it has brought the file to its end."""
    path = target.with_name(f"{target.name}.partial")
    while True:
        stream = path.open("a+b")
        waited = not locked(stream)
        while not locked(stream):
            time.sleep(0.1)
        if path.exists() and os.path.samestat(path.stat(), os.fstat(stream.fileno())):
            break
        stream.close()
        if waited and target.is_file():
            yield None
            return
    try:
        yield stream
    finally:
        if size_of(stream) == 0:
            path.unlink(missing_ok=True)
        stream.close()


def locked(stream: IO[bytes]) -> bool:
    """Tries to lock an open file."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def download(file: PublishedFile, partial: IO[bytes], progress: ByteCount, patience: Patience) -> None:
    """Tries until the partial file is whole and right; tries that get no further than an earlier one are counted."""
    failures, furthest, mended = 0, size_of(partial), False
    while True:
        before = size_of(partial)
        try:
            answer = continue_download(file, partial, progress, patience.timeout_s)
            check_whole(file, partial, answer)
            return
        except WrongContentError as error:
            partial.truncate(0)
            if mended or before == 0:  # what was resumed may have begun as another file: once more from the start
                raise RefusedError(str(error)) from error
            mended = True
        except RetryError:
            failures = 0 if size_of(partial) > furthest else failures + 1
            furthest = max(furthest, size_of(partial))
            if failures >= patience.tries:
                raise
            patience.rest(max(1, failures))


def size_of(stream: IO[bytes]) -> int:
    """Returns how many bytes an open file has."""
    return os.fstat(stream.fileno()).st_size


def continue_download(file: PublishedFile, partial: IO[bytes], progress: ByteCount, timeout_s: float) -> Answer:
    """Appends what is missing, as far as this connection lasts.

    A file whose hash is not known is never resumed: nothing would tell if its two halves belong together.
    """
    start = size_of(partial)
    redirects = NotedRedirects()
    headers = AGENT | ({"Range": f"bytes={start}-"} if start else {})
    try:
        opener = urllib.request.build_opener(redirects)
        with opener.open(urllib.request.Request(file.url, headers=headers), timeout=timeout_s) as response:
            answer = answer_of(response, start, redirects.sha256)
            if answer.start != start or not (file.sha256 or answer.sha256):
                partial.truncate(0)
            if answer.start > size_of(partial):
                raise RetryError("the connection broke, and the file can only be had whole")
            receive(response, partial, answer, progress)
            return answer
    except urllib.error.HTTPError as error:
        return after_refusal(error, start, redirects.sha256, partial)
    except TimeoutError as error:
        raise RetryError(f"the server sent nothing for {timeout_s:g} s") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise RetryError(f"the server did not answer in {timeout_s:g} s") from error
        raise RetryError(f"the server can't be reached ({reason_of(error.reason)})") from error
    except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
        raise RetryError(f"the connection broke ({reason_of(error)})") from error


def reason_of(error: object) -> str:
    """Returns an error in a few words."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0]


def answer_of(response: http.client.HTTPResponse, start: int, sha256: str) -> Answer:
    """Reads what a 200 or 206 answer promises; a web page in the place of a file is refused."""
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise RefusedError("the server sent a web page in its place")
    length = response.headers.get("Content-Length", "")
    sha256 = sha256 or sha256_of(response.headers)
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if found is None:
            raise RefusedError("the server answered a request for a part without saying which part it sent")
        return Answer(int(found[1]), None if found[2] == "*" else int(found[2]), sha256)
    return Answer(0, int(length) if length.isdecimal() else None, sha256)


def sha256_of(headers: Message) -> str:
    """Returns the SHA-256 that the hub of Hugging Face states, else ""."""
    stated = str(headers.get("X-Linked-ETag", "")).strip('"')
    return stated if SHA256.fullmatch(stated) else ""


def after_refusal(error: urllib.error.HTTPError, start: int, sha256: str, partial: IO[bytes]) -> Answer:
    """Sorts an error status: asked beyond the end (416), worth another try, or final."""
    error.close()
    if error.code == 416 and start:
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if total is not None and int(total[1]) == start:
            return Answer(start, start, sha256)
        partial.truncate(0)
        raise RetryError("the server has another file than the one that was begun")
    problem = f"the server answered {error.code} {error.reason}"
    raise RetryError(problem) if error.code in WORTH_ANOTHER_TRY else RefusedError(problem)


def receive(response: http.client.HTTPResponse, partial: IO[bytes], answer: Answer, progress: ByteCount) -> None:
    """Writes what comes; whatever came before a connection broke stays."""
    done = answer.start
    require_space(Path(partial.name), answer.total, done)
    checked = False
    while chunk := next_chunk(response):
        partial.write(chunk)
        partial.flush()
        done += len(chunk)
        if not checked and done >= HEAD_BYTES:
            require_checkpoint(partial)
            checked = True
        progress(done, answer.total)
    if answer.total is not None and done < answer.total:
        raise RetryError(f"the connection ended after {done:,} of {answer.total:,} bytes")


def next_chunk(response: http.client.HTTPResponse) -> bytes:
    """Returns what has come, b"" at the end; a network that is gone is no fault of the folder."""
    try:
        return response.read1(CHUNK_BYTES)
    except TimeoutError:
        raise
    except OSError as error:
        raise RetryError(f"the connection broke ({reason_of(error)})") from error


def require_checkpoint(partial: IO[bytes]) -> None:
    """Refuses what is no file of weights, by its first bytes."""
    head = os.pread(partial.fileno(), HEAD_BYTES, 0)
    if kind_of(head) is None:
        partial.truncate(0)
        raise RefusedError(f"the server sent something else in its place (it begins with {head!r})")


def require_space(path: Path, total: int | None, done: int) -> None:
    """Refuses a file that the disk has no room for, before it is full."""
    free = shutil.disk_usage(path.parent).free
    if total is not None and total - done + MARGIN_BYTES > free:
        raise RefusedError(
            f"{path.parent} has {free / 1e6:,.0f} MB free, and {(total - done + MARGIN_BYTES) / 1e6:,.0f} MB are needed"
        )


def check_whole(file: PublishedFile, partial: IO[bytes], answer: Answer) -> None:
    """Compares length and hash with what is known.

    Raises:
        WrongContentError: These are the bytes of another file.
    """
    size = size_of(partial)
    if answer.total is not None and size != answer.total:
        raise WrongContentError(f"the server announced {answer.total:,} bytes and sent {size:,}")
    require_checkpoint(partial)
    expected = file.sha256 or answer.sha256
    found = digest(Path(partial.name))
    if not found.startswith(expected):
        raise WrongContentError(
            f"what came is another file (its SHA-256 begins with {found[: len(expected)]}, not {expected})"
        )


def digest(path: Path) -> str:
    """Returns a file's SHA-256 as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
