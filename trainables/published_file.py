"""A file of published weights: its name here, its address, the start of its SHA-256. Imports the standard library."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote, urlparse

__all__ = ["Kind", "PublishedFile", "has_hash", "kind_of", "published_file"]

Kind = Literal["zip", "pickle", "safetensors"]

_HASH = re.compile(r"[-_]([0-9a-f]{8,64})\.(?:pth|pt|bin|safetensors)")
_HUB = re.compile(r"/([^/]+)/([^/]+)/resolve/([^/]+)/(.+)")


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file; `sha256` holds as many first hex digits as are known, "" if none are."""

    name: str
    url: str
    sha256: str = ""

    def at(self, mirror: str) -> "PublishedFile":
        """Returns the same file as `mirror` serves it: by its name, below that URL."""
        url = urlparse(mirror)
        path = quote(f"{url.path.rstrip('/')}/{self.name}", safe="/%:@!$&'()*+,;=~")  # as written, if escaped already
        return PublishedFile(self.name, url._replace(path=path).geturl(), self.sha256)


def published_file(url: str) -> PublishedFile:
    """Returns the file behind a URL.

    OpenMMLab and torchvision end a file's name in the first 8 digits of its SHA-256. On the hub of Hugging Face all
    files have the same name, so that owner, repository and revision go into ours.
    """
    path = urlparse(url).path
    hub = _HUB.fullmatch(path)
    name = PurePosixPath(path).name
    if hub is not None:
        owner, repository, revision, inside = hub.groups()
        stem = [owner, repository] if revision == "main" else [owner, repository, revision[:12]]
        return PublishedFile("--".join([*stem, inside.replace("/", "--")]), url)
    found = _HASH.search(name)
    return PublishedFile(name, url, found[1] if found else "")


def kind_of(head: bytes) -> Kind | None:
    """Says what kind of checkpoint begins with these bytes (16 are enough), or None."""
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    return None


def has_hash(path: Path, sha256: str) -> bool:
    """Tells whether a file's SHA-256 begins with the given digits ("" = any)."""
    if not sha256:
        with path.open("rb") as stream:
            return kind_of(stream.read(16)) is not None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest().startswith(sha256)
