import errno
import hashlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend_gpu import download
from backend_gpu.download import fetch
from backend_gpu.errors import CheckpointError

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several chunks
CHANGED = CONTENT[::-1]
HALF = len(CONTENT) // 2


@dataclass
class Remote:
    """A file server on the loopback whose misbehaviour a test chooses."""

    port: int
    content: bytes = CONTENT
    etag: str = '"one"'
    last_modified: str = ""
    knows_ranges: bool = True
    knows_if_range: bool = True
    says_length: bool = True
    failures: list[int] = field(default_factory=list)  # statuses of the first answers
    cuts: list[int] = field(default_factory=list)  # bytes after which the next bodies break off
    shift: int = 0  # bytes by which a range lies before the one that was asked for
    ranges: list[str | None] = field(default_factory=list)  # what was asked for
    sent: list[int] = field(default_factory=list)  # bytes of each body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/base.pt"


@pytest.fixture
def remote() -> Iterator[Remote]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            served.ranges.append(asked)
            if served.failures:
                self.send_error(served.failures.pop(0))
                return
            start, body = 0, served.content
            validator = served.etag if served.etag.startswith('"') else served.last_modified
            if asked and served.knows_ranges and (not served.knows_if_range or self.headers["If-Range"] == validator):
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                start -= served.shift
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - served.shift - 1}/{len(body)}")
                body = body[: len(body) - served.shift]
            else:
                self.send_response(200)
            body = body[start:]
            served.sent.append(len(body))
            for name, value in (("ETag", served.etag), ("Last-Modified", served.last_modified)):
                if value:
                    self.send_header(name, value)
            if served.says_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: served.cuts.pop(0)] if served.cuts else body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Remote(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "base.pt"


def interrupt(remote: Remote, path: Path) -> None:
    """Leave a .part behind, as a run that gave up would."""
    remote.cuts = [HALF]
    with pytest.raises(CheckpointError, match="closed the connection too early"):
        fetch(remote.url, path, retry_delays_s=())
    part = path.with_name("base.pt.part")
    assert 0 < part.stat().st_size <= HALF
    assert CONTENT.startswith(part.read_bytes())
    remote.ranges.clear()
    remote.sent.clear()


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def test_a_file_arrives_whole_with_its_sha256_beside_it(
    remote: Remote, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = fetch(remote.url, path)
    assert path.read_bytes() == CONTENT
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    assert path.with_name("base.pt.sha256").read_text() == f"{digest}  base.pt\n"
    assert files(path) == ["base.pt", "base.pt.sha256"]
    shown = capsys.readouterr()
    assert "base.pt" in shown.err
    assert "1.05M/1.05M" in shown.err
    assert shown.out == ""


def test_a_file_that_is_there_is_not_fetched_again(remote: Remote, path: Path) -> None:
    fetch(remote.url, path)
    fetch(remote.url, path)
    assert len(remote.ranges) == 1


def test_a_broken_transfer_goes_on_where_it_stopped_within_one_call(remote: Remote, path: Path) -> None:
    remote.cuts = [HALF]
    fetch(remote.url, path, retry_delays_s=(0,))
    assert path.read_bytes() == CONTENT
    first, second = remote.ranges
    assert first is None
    assert second is not None


def test_a_later_call_goes_on_where_the_last_one_stopped(remote: Remote, path: Path) -> None:
    interrupt(remote, path)
    have = path.with_name("base.pt.part").stat().st_size
    fetch(remote.url, path, retry_delays_s=())
    assert remote.ranges == [f"bytes={have}-"]
    assert path.read_bytes() == CONTENT


def test_a_server_without_strong_etags_is_resumed_by_date(remote: Remote, path: Path) -> None:
    remote.etag, remote.last_modified = 'W/"weak"', "Mon, 20 Dec 2021 00:00:00 GMT"
    interrupt(remote, path)
    fetch(remote.url, path, retry_delays_s=())
    assert remote.sent[0] < len(CONTENT)
    assert path.read_bytes() == CONTENT


def test_another_range_than_the_one_asked_for_is_not_appended(remote: Remote, path: Path) -> None:
    interrupt(remote, path)
    remote.shift = 1000
    fetch(remote.url, path, retry_delays_s=(0,))
    assert path.read_bytes() == CONTENT


def test_a_file_that_cannot_be_told_apart_is_fetched_from_the_start(remote: Remote, path: Path) -> None:
    remote.etag = ""
    interrupt(remote, path)
    fetch(remote.url, path, retry_delays_s=())
    assert remote.ranges == [None]
    assert path.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_starts_the_file_again(remote: Remote, path: Path) -> None:
    remote.knows_ranges = False
    interrupt(remote, path)
    fetch(remote.url, path, retry_delays_s=())
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("knows_if_range", [True, False])
@pytest.mark.parametrize("size", [len(CHANGED), 100, 2 * len(CHANGED)])
def test_a_file_that_changed_in_between_is_never_mixed(
    remote: Remote, path: Path, knows_if_range: bool, size: int
) -> None:
    interrupt(remote, path)
    remote.content, remote.etag, remote.knows_if_range = (CHANGED * 2)[:size], '"two"', knows_if_range
    fetch(remote.url, path, retry_delays_s=(0,))
    assert path.read_bytes() == (CHANGED * 2)[:size]


def test_a_run_that_ended_just_before_the_renaming_needs_no_request(remote: Remote, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("base.pt.part").write_bytes(CONTENT)
    path.with_name("base.pt.part.json").write_text(json.dumps({"validator": '"one"', "size": len(CONTENT)}))
    fetch(remote.url, path)
    assert remote.ranges == []
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("note", ["", "{", "[]", '{"validator": "x"}', '{"unknown": 1}'])
def test_a_part_of_unknown_origin_is_fetched_from_the_start(remote: Remote, path: Path, note: str) -> None:
    path.parent.mkdir()
    path.with_name("base.pt.part").write_bytes(b"junk")
    path.with_name("base.pt.part.json").write_text(note)
    fetch(remote.url, path)
    assert path.read_bytes() == CONTENT


def test_server_errors_are_tried_again(remote: Remote, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    remote.failures = [500, 503, 429]
    fetch(remote.url, path, retry_delays_s=(0, 0, 0))
    assert path.read_bytes() == CONTENT
    assert "answers 500" in caplog.text


def test_lasting_server_errors_end_with_advice(remote: Remote, path: Path) -> None:
    remote.failures = [500] * 9
    with pytest.raises(CheckpointError, match=r"answers 500 .*try again .*put the file at .*base\.pt yourself"):
        fetch(remote.url, path, retry_delays_s=(0, 0))
    assert len(remote.ranges) == 3


def test_progress_renews_the_patience(remote: Remote, path: Path) -> None:
    remote.cuts = [300_000] * 5  # each of the requests gets a chunk further
    fetch(remote.url, path, retry_delays_s=(0,))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_missing_file_is_said_at_once(remote: Remote, path: Path, status: int) -> None:
    remote.failures = [status] * 9
    with pytest.raises(CheckpointError, match=rf"answers {status} .*no longer offered.*put it at .*base\.pt$"):
        fetch(remote.url, path, retry_delays_s=(0, 0))
    assert len(remote.ranges) == 1
    assert files(path) == []


def test_a_truncated_body_never_becomes_the_file(remote: Remote, path: Path) -> None:
    remote.cuts = [1000] * 9
    with pytest.raises(CheckpointError, match="closed the connection too early"):
        fetch(remote.url, path, retry_delays_s=(0,))
    assert not path.exists()


def test_a_server_that_does_not_say_the_length_is_believed(remote: Remote, path: Path) -> None:
    remote.says_length = False
    fetch(remote.url, path)
    assert path.read_bytes() == CONTENT


def test_no_network_ends_with_advice(path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(CheckpointError, match=r"no connection to 127\.0\.0\.1\. Check the network"):
        fetch(f"http://127.0.0.1:{port}/base.pt", path, retry_delays_s=(0,))


def test_a_silent_server_is_not_waited_for_without_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(CheckpointError, match="does not answer"):
        fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/base.pt", path, retry_delays_s=(0,))


def test_an_impossible_address_is_an_error_of_ours(path: Path) -> None:
    with pytest.raises(CheckpointError, match="could not fetch"):
        fetch("base.pt", path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_ends_with_advice(remote: Remote, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("base.pt.part").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="disk is full: free some space") as caught:
        fetch(remote.url, path)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_too_little_space_is_said_before_the_transfer(
    remote: Remote, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=HALF))
    with pytest.raises(CheckpointError, match=r"needs 1\.0 MB more, and .* has 0\.5 MB free"):
        fetch(remote.url, path)
    assert files(path) == []


def test_a_folder_that_cannot_be_made_ends_with_advice(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="make the folder writable or choose another"):
        fetch(remote.url, tmp_path / "file" / "base.pt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_ends_with_advice(remote: Remote, path: Path) -> None:
    path.parent.mkdir(mode=0o500)
    with pytest.raises(CheckpointError, match="Permission denied: make the folder writable or choose another"):
        fetch(remote.url, path)


def test_a_file_that_changed_on_disk_is_refused(remote: Remote, path: Path) -> None:
    fetch(remote.url, path)
    path.write_bytes(CHANGED)
    with pytest.raises(CheckpointError, match=r"changed since it was fetched .*base\.pt\.sha256.* delete both"):
        fetch(remote.url, path)


def test_another_file_under_the_recorded_sha256_is_refused(remote: Remote, path: Path) -> None:
    fetch(remote.url, path)
    path.unlink()
    remote.content = CHANGED
    with pytest.raises(CheckpointError, match="delete both"):
        fetch(remote.url, path)


def test_the_sha256_of_a_file_put_there_by_hand_is_recorded_at_first_use(remote: Remote, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert fetch(remote.url, path) == hashlib.sha256(CONTENT).hexdigest()
    path.write_bytes(CHANGED)
    with pytest.raises(CheckpointError, match="delete both"):
        fetch(remote.url, path)
    assert remote.ranges == []
