"""Fetching a file from a real server on loopback that stalls, truncates, lies, ignores Range or is slow.

Each ends in the right file or in one clear message, and nothing stays behind but what the next call goes on from.
"""

import errno
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from segdata.errors import InputError, SegsweepError
from segsweep.downloads import Patience, fetch_file
from trainables.published_file import PublishedFile, published_file

BODY = b"PK\x03\x04" + bytes(range(256)) * 400  # what a zip file of torch begins with, then 100 KiB
OTHER = b"PK\x03\x04" + b"other" * 20_000
SHA256 = hashlib.sha256(BODY).hexdigest()
NAME = f"net-{SHA256[:8]}.pth"
QUICK = Patience(timeout_s=0.3, tries=3, pause_s=0.01)

Answer = Callable[["Handler", int], None]


@dataclass
class Script:
    """What the server does at each request (the last entry goes on), and what it was asked."""

    answers: list[Answer]
    ranges: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Answers as the script says."""

    script: Script

    def do_GET(self) -> None:
        script = self.server.script  # type: ignore[attr-defined]
        script.ranges.append(self.headers.get("Range"))
        answer = script.answers[min(len(script.ranges), len(script.answers)) - 1]
        answer(self, int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-")))

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def well(handler: Handler, start: int, body: bytes = BODY, send: int | None = None) -> None:
    """As a good server does; `send` = break off after so many bytes."""
    if start >= len(body):
        handler.begin(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
        return
    part = body[start:]
    length = {"Content-Length": str(len(part))}
    if start:
        length["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
    handler.begin(206 if start else 200, length)
    handler.wfile.write(part if send is None else part[:send])


def truncates(handler: Handler, start: int) -> None:
    well(handler, start, send=40_000)


def stalls(handler: Handler, start: int) -> None:
    well(handler, start, send=30_000)
    handler.wfile.flush()
    time.sleep(0.6)


def says_nothing(handler: Handler, start: int) -> None:
    time.sleep(0.6)


def ignores_range(handler: Handler, start: int) -> None:
    well(handler, 0)


def is_slow(handler: Handler, start: int) -> None:
    handler.begin(200, {"Content-Length": str(len(BODY))})
    for part in (BODY[:3], BODY[3:10], BODY[10:50_000], BODY[50_000:]):
        handler.wfile.write(part)
        handler.wfile.flush()
        time.sleep(0.1)


def sends_another_file(handler: Handler, start: int) -> None:
    well(handler, start, OTHER)


def announces_too_much(handler: Handler, start: int) -> None:
    handler.begin(200, {"Content-Length": str(len(BODY) + 999)})
    handler.wfile.write(BODY)


def announces_too_little(handler: Handler, start: int) -> None:
    handler.begin(200, {"Content-Length": str(len(BODY) - 999)})
    handler.wfile.write(BODY)


def sends_a_web_page(handler: Handler, start: int) -> None:
    handler.begin(200, {"Content-Type": "text/html; charset=utf-8", "Content-Length": "15"})
    handler.wfile.write(b"<html>404</html"[:15])


def sends_text_as_a_file(handler: Handler, start: int) -> None:
    page = b"version https://git-lfs.github.com/spec/v1\n"
    handler.begin(200, {"Content-Type": "application/octet-stream", "Content-Length": str(len(page))})
    handler.wfile.write(page)


def status(code: int) -> Answer:
    return lambda handler, start: handler.begin(code, {"Content-Length": "0"})


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[str, Script]]]:
    """Starts a server with a script; gives its address and the script."""
    servers: list[ThreadingHTTPServer] = []
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def start(*answers: Answer) -> tuple[str, Script]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # clients hang up on purpose
        script = server.script = Script(list(answers))  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", script

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


Serve = Callable[..., tuple[str, Script]]


def fetch(address: str, folder: Path, patience: Patience = QUICK, name: str = NAME) -> str:
    return fetch_file(published_file(f"{address}/v1/{name}"), folder, patience=patience)


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ((well,), "fetched"),
        ((truncates,), "fetched"),  # 40,000 bytes a time: three connections
        ((stalls, well), "fetched"),
        ((says_nothing, well), "fetched"),
        ((truncates, ignores_range), "fetched"),
        ((is_slow,), "fetched"),
        ((status(503), status(429), well), "fetched"),
        ((announces_too_much, well), "fetched"),  # asked for the rest, the server says that there is none
    ],
    ids=["good", "truncated", "stalled", "silent", "no-range", "slow", "busy", "too-long"],
)
def test_the_right_file_in_the_end(serve: Serve, tmp_path: Path, answers: tuple[Answer, ...], state: str) -> None:
    address, _ = serve(*answers)
    assert fetch(address, tmp_path / "cache") == state
    assert (tmp_path / "cache" / NAME).read_bytes() == BODY
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [NAME]
    assert fetch("http://127.0.0.1:9", tmp_path / "cache") == "present", "a second fetch asks no server"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (sends_another_file, f"another file .its SHA-256 begins with {hashlib.sha256(OTHER).hexdigest()[:8]}, not"),
        (announces_too_little, "another file"),
        (sends_a_web_page, "sent a web page in its place"),
        (sends_text_as_a_file, "sent something else in its place .it begins with b'version https:"),
        (status(404), "answered 404 Not Found"),
        (status(503), "answered 503 Service Unavailable"),
        (says_nothing, "(did not answer in|sent nothing for) 0.3 s"),
    ],
    ids=["wrong-content", "too-short", "web-page", "text", "404", "503", "silent"],
)
def test_one_message_and_nothing_left(serve: Serve, tmp_path: Path, answer: Answer, message: str) -> None:
    address, _ = serve(answer)
    with pytest.raises(SegsweepError, match=message) as told:
        fetch(address, tmp_path / "cache")
    assert f"{address}/v1/{NAME}: expected {NAME}, but " in str(told.value)
    assert str(tmp_path / "cache" / NAME) in str(told.value), "says where a copy could lie"
    assert told.value.exit_code == 1 and "\n" not in str(told.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_nobody_listens(tmp_path: Path, serve: Serve) -> None:
    with pytest.raises(SegsweepError, match=r"can't be reached \(Connection refused\)"):
        fetch("http://127.0.0.1:9", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_next_call_goes_on_where_this_one_stopped(serve: Serve, tmp_path: Path) -> None:
    address, script = serve(truncates, status(503), status(503), status(503), well)
    with pytest.raises(SegsweepError, match="503"):
        fetch(address, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.partial"]
    assert fetch(address, tmp_path) == "resumed"
    assert script.ranges[-1] == "bytes=40000-" and (tmp_path / NAME).read_bytes() == BODY


def test_a_partial_file_of_something_else_is_dropped(serve: Serve, tmp_path: Path) -> None:
    address, script = serve(well)
    (tmp_path / f"{NAME}.partial").write_bytes(OTHER[:50_000])
    fetch(address, tmp_path)
    assert script.ranges == ["bytes=50000-", None] and (tmp_path / NAME).read_bytes() == BODY


def test_a_damaged_file_in_the_cache_is_fetched_again(serve: Serve, tmp_path: Path) -> None:
    address, _ = serve(well)
    (tmp_path / NAME).write_bytes(BODY[:-1])
    assert fetch(address, tmp_path) == "replaced"
    assert (tmp_path / NAME).read_bytes() == BODY


def test_a_damaged_file_stays_until_there_is_a_better_one(serve: Serve, tmp_path: Path) -> None:
    address, _ = serve(status(404))
    (tmp_path / NAME).write_bytes(BODY[:-1])
    with pytest.raises(SegsweepError, match="404"):
        fetch(address, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_without_a_known_hash_two_halves_are_never_joined(serve: Serve, tmp_path: Path) -> None:
    address, script = serve(truncates, well)
    assert fetch(address, tmp_path, name="plain.pth") == "fetched"
    assert (tmp_path / "plain.pth").read_bytes() == BODY
    assert script.ranges == [None, "bytes=40000-", None]


def test_a_hub_that_states_the_hash_in_its_redirect_is_held_to_it(serve: Serve, tmp_path: Path) -> None:
    def redirect_to(target: str, stated: str) -> Answer:
        return lambda handler, start: handler.begin(
            302, {"Location": target, "X-Linked-ETag": f'"{stated}"', "Content-Length": "0"}
        )

    store, asked = serve(truncates, well)
    hub, _ = serve(redirect_to(f"{store}/blob", SHA256))
    file = published_file(f"{hub}/smp-hub/resnet34.imagenet/resolve/7a57b34f7233/model.safetensors")
    fetch_file(file, tmp_path, patience=QUICK)
    assert (tmp_path / "smp-hub--resnet34.imagenet--7a57b34f7233--model.safetensors").read_bytes() == BODY
    assert asked.ranges == [None, "bytes=40000-"]
    liar, _ = serve(redirect_to(f"{store}/blob", "0" * 64))
    with pytest.raises(SegsweepError, match="another file"):
        fetch_file(PublishedFile("other.bin", f"{liar}/x"), tmp_path, patience=QUICK)


def test_two_callers_download_once(serve: Serve, tmp_path: Path) -> None:
    address, script = serve(is_slow)
    states: list[str] = []
    callers = [threading.Thread(target=lambda: states.append(fetch(address, tmp_path))) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(states) == ["fetched", "present"] and len(script.ranges) == 1
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_network_that_goes_away_is_not_taken_for_a_wrong_folder(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(response: HTTPResponse, count: int) -> bytes:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    address, _ = serve(well)
    monkeypatch.setattr(HTTPResponse, "read1", unreachable)
    with pytest.raises(SegsweepError, match=r"the connection broke \(No route to host\)") as told:
        fetch(address, tmp_path)
    assert told.value.exit_code == 1


@pytest.mark.parametrize("written", ["wëights of ours", "w%C3%ABights%20of%20ours"])
def test_a_mirror_whose_path_has_spaces_and_umlauts(written: str) -> None:
    found = published_file("https://a.org/net-0676ba61.pth").at(f"http://127.0.0.1:8000/{written}/")
    assert found.url == "http://127.0.0.1:8000/w%C3%ABights%20of%20ours/net-0676ba61.pth"


def test_a_disk_that_is_too_small_is_said_before_it_is_full(serve: Serve, tmp_path: Path) -> None:
    address, _ = serve(lambda handler, start: handler.begin(200, {"Content-Length": str(10**18)}))
    with pytest.raises(SegsweepError, match="MB free, and 1,000,000,000,"):
        fetch(address, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_named(serve: Serve, tmp_path: Path) -> None:
    address, _ = serve(well)
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match="expected a folder to write to, but got: .*SEGSWEEP_WEIGHTS"):
        fetch(address, tmp_path / "cache")


def test_progress_counts_bytes_up_to_the_whole(serve: Serve, tmp_path: Path) -> None:
    address, _ = serve(truncates)
    seen: list[tuple[int, int | None]] = []
    file = published_file(f"{address}/{NAME}")
    fetch_file(
        file, tmp_path, patience=QUICK, progress=lambda done_bytes, total_bytes: seen.append((done_bytes, total_bytes))
    )
    assert seen[-1] == (len(BODY), len(BODY)) and seen == sorted(seen)
