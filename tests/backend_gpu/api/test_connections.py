"""Connections that do not do what clients do: none of them keeps the service from the others."""

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from openai import OpenAI

from backend_gpu.api import connections
from backend_gpu.api.connections import MAX_CONNECTIONS, OWN_FILES, Connections
from tests.backend_gpu.api.raw_connection import answer_in, connected, exchange, read_all
from tests.backend_gpu.api.running_service import RunningService, Serve
from tests.backend_gpu.waiting import WAIT_S, wait_until

HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
POLL = b"GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
LAST_POLL = b"GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@pytest.fixture
def hasty(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningService]:
    """A service that waits for nobody longer than a moment."""
    for name in ("HEAD_S", "BODY_S", "KEEP_ALIVE_S"):
        monkeypatch.setattr(connections, name, 1.0)
    monkeypatch.setattr(connections, "CHECK_INTERVAL_S", 0.1)
    with serve() as running:
        yield running


def trickle(connection: socket.socket, content: bytes) -> bytes:
    """Send byte after byte for as long as nothing comes back; then return all that does."""
    deadline = time.monotonic() + WAIT_S
    while not select.select([connection], [], [], 0.02)[0]:
        assert time.monotonic() < deadline, "it waits for ever"
        connection.send(content[:1])
        content = content[1:]
    return read_all(connection)


def test_a_connection_that_says_nothing_is_closed(hasty: RunningService) -> None:
    with connected(hasty.url) as connection:
        assert read_all(connection) == b""


@pytest.mark.parametrize("sent", [b"G", b"GET /v1/status HTTP/1.1\r\nHost: 127", HEAD], ids=["G", "half", "no end"])
def test_half_a_head_is_told_to_have_come_too_late(hasty: RunningService, sent: bytes) -> None:
    answer = exchange(hasty.url, sent)
    assert answer.status == 408
    assert (answer.error["code"], answer.headers["connection"]) == ("request_timeout", "close")
    assert "head" in answer.error["message"]


def test_no_byte_of_a_head_gives_it_more_time(hasty: RunningService) -> None:
    with connected(hasty.url) as connection:
        assert answer_in(trickle(connection, HEAD + b"X: " + b"x" * 100_000)).error["code"] == "request_timeout"


def test_a_body_that_does_not_come_is_told_under_the_requests_own_id(hasty: RunningService) -> None:
    answer = exchange(hasty.url, HEAD + b"x-request-id: mine\r\nContent-Length: 100\r\n\r\n")
    assert (answer.status, answer.headers["x-request-id"]) == (408, "mine")
    assert "body" in answer.error["message"]
    wait_until(lambda: not hasty.server.server_state.tasks)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 60000\r\n\r\n", b" " * 60_000),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 20_000),
    ],
    ids=["length", "chunked"],
)
def test_no_byte_of_a_body_gives_it_more_time(hasty: RunningService, head: bytes, body: bytes) -> None:
    with connected(hasty.url) as connection:
        connection.sendall(HEAD + head)
        assert answer_in(trickle(connection, body)).error["code"] == "request_timeout"
    wait_until(lambda: not hasty.server.server_state.tasks)


def test_a_body_that_nobody_wants_has_no_more_time_either(hasty: RunningService) -> None:
    with connected(hasty.url) as connection:
        connection.sendall(b"POST /v1/images/edits HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999\r\n\r\n")
        content = connection.recv(65536)
        assert content.startswith(b"HTTP/1.1 404")
        with contextlib.suppress(ConnectionError):
            trickle(connection, b" " * 999_999)
    wait_until(lambda: not hasty.server.server_state.connections)


def test_the_next_request_of_a_connection_has_the_same_deadline(hasty: RunningService) -> None:
    with connected(hasty.url) as connection:
        connection.sendall(POLL + b"GET /v1/sta")
        first, _, second = read_all(connection).partition(b"HTTP/1.1 408")
    assert first.startswith(b"HTTP/1.1 200")
    assert b"request_timeout" in second


def test_an_idle_connection_is_closed_without_a_word(hasty: RunningService) -> None:
    with connected(hasty.url) as connection:
        connection.sendall(POLL)
        assert read_all(connection).count(b"HTTP/1.1") == 1


def test_no_deadline_cuts_an_answer_that_takes_its_time(hasty: RunningService) -> None:
    hasty.engine.hold()
    job_id = hasty.submit(steps=3)["id"]
    with ThreadPoolExecutor() as threads, OpenAI(base_url=f"{hasty.url}/v1", api_key="none", max_retries=0) as client:
        events = threads.submit(lambda: hasty.http.get(f"/v1/jobs/{job_id}/events").text)
        plain = threads.submit(client.images.generate, prompt="a dog")
        stream = threads.submit(lambda: list(client.images.generate(prompt="a cat", stream=True)))
        wait_until(lambda: len(hasty.feed._listeners) == 3)
        checks_until = time.monotonic() + 2.5  # more than twice the deadlines
        wait_until(lambda: time.monotonic() > checks_until)
        hasty.engine.release()
        assert '"status":"succeeded"' in events.result()
        assert plain.result().data
        assert stream.result()[-1].type == "image_generation.completed"


@pytest.mark.parametrize(
    ("path", "sent"),
    [("/v1/images/edits", b" " * 1000), ("/v1/jobs", b" "), ("/v1/jobs", b""), ("/v1/jobs", b" " * 70_000)],
    ids=["answered", "half a body", "no body", "refused"],
)
def test_no_client_that_still_has_to_send_holds_up_the_end(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 0.2)
    with ExitStack() as stack:
        with serve() as running:
            connection = stack.enter_context(connected(running.url))
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 80000\r\n\r\n"
            connection.sendall(head.encode() + sent)
            wait_until(lambda: running.server.server_state.tasks)
        content = read_all(connection)
    assert content.startswith(b"HTTP/1.1 4")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


NO_REQUESTS = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n",
    "no words": b"\0" * 1000 + b"\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: localhost\r\n\r\n",
    "bad header": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nno colon\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "bad length": HEAD + b"Content-Length: many\r\n\r\n{}",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n{}",
    "unknown coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
}


@pytest.mark.parametrize("sent", NO_REQUESTS.values(), ids=NO_REQUESTS.keys())
def test_what_is_no_request_is_told_in_the_form_that_all_errors_have(
    shared: RunningService, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answer = exchange(shared.url, sent)
    assert answer.status == 400
    assert (answer.error["code"], answer.error["type"]) == ("malformed_request", "invalid_request_error")
    assert "bytearray" not in answer.error["message"]
    (record,) = [record for record in caplog.records if record.getMessage() == "request refused"]
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert vars(record)["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("size", [20_000, 5_000_000])
@pytest.mark.parametrize("start", [b"GET /", HEAD + b"X: "], ids=["line", "header"])
def test_a_head_that_is_too_large_is_told_as_such(shared: RunningService, start: bytes, size: int) -> None:
    answer = exchange(shared.url, start + b"x" * size)
    assert (answer.status, answer.error["code"]) == (431, "head_too_large")
    assert "16384 bytes" in answer.error["message"]


def test_a_bad_chunk_after_a_good_one_is_told_under_the_requests_own_id(shared: RunningService) -> None:
    with connected(shared.url) as connection:
        connection.sendall(HEAD + b"x-request-id: mine\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        wait_until(lambda: shared.server.server_state.tasks)
        connection.sendall(b"zz\r\n")
        answer = answer_in(read_all(connection))
    assert (answer.status, answer.headers["x-request-id"]) == (400, "mine")
    wait_until(lambda: not shared.server.server_state.tasks)


@pytest.fixture
def small(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningService]:
    """A service that has room for 20 connections."""
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 20)
    with serve() as running:
        yield running


PARTS = {
    "silent": b"",
    "half a head": b"GET /healthz HT",
    "no body": HEAD + b"Content-Length: 10\r\n\r\n",
    "half a body": HEAD + b"Content-Length: 10\r\n\r\n{",
    "idle": POLL,
}


@pytest.mark.parametrize("sent", PARTS.values(), ids=PARTS.keys())
def test_new_connections_take_the_place_of_those_that_wait_longest(small: RunningService, sent: bytes) -> None:
    with ExitStack() as stack:
        crowd = []
        for _ in range(60):
            crowd.append(stack.enter_context(connected(small.url)))
            with contextlib.suppress(ConnectionError):  # it may be dropped already
                crowd[-1].sendall(sent)
            assert exchange(small.url, LAST_POLL).status == 200
        for connection in crowd[:40]:
            read_all(connection)  # comes to its end
        wait_until(lambda: len(small.server.server_state.connections) <= 20)
        assert httpx.post(f"{small.url}/v1/jobs", json={"prompt": "a red apple"}).status_code == 202


def test_requests_in_work_keep_their_connections_and_those_that_come_too_late_are_told(small: RunningService) -> None:
    small.engine.hold()
    job_id = small.submit()["id"]
    small.http.close()
    events = f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with ExitStack() as stack:
        followers = [stack.enter_context(connected(small.url)) for _ in range(20)]
        for follower in followers:
            follower.sendall(events)
            assert follower.recv(12) == b"HTTP/1.1 200"
        answer = exchange(small.url, POLL)
        assert (answer.status, answer.error["code"]) == (503, "too_many_connections")
        assert answer.headers["retry-after"] == "1"
        small.engine.release()
        for follower in followers:
            content = b""
            while b'"status":"succeeded"' not in content:
                content += follower.recv(65536)


def test_a_client_whose_idle_connection_was_dropped_notices_nothing(small: RunningService) -> None:
    for _ in range(3):
        assert small.http.get("/v1/status").status_code == 200
        with ExitStack() as stack:
            for _ in range(25):
                stack.enter_context(connected(small.url))
            assert httpx.get(f"{small.url}/healthz").status_code == 200


STATUS = b"HTTP/1.1 200"
LARGE = 800  # pictures: more than lies in any buffer on the way


def ask_for_much(running: RunningService, connection: socket.socket) -> None:
    """Ask for large pictures, one behind the other."""
    job = running.wait_for(running.submit()["id"])
    path = job["images"][0]["url"]
    connection.sendall(f"GET {path}?size=1024 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * LARGE)
    running.http.close()


def test_a_client_that_takes_nothing_of_its_answer_is_dropped(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_S", 0.5)
    with serve() as running, connected(running.url, receive_buffer=4096) as connection:
        started_at = time.monotonic()
        ask_for_much(running, connection)
        wait_until(lambda: running.server.server_state.tasks)
        wait_until(lambda: not running.server.server_state.connections)
        wait_until(lambda: not running.server.server_state.tasks)
        assert time.monotonic() - started_at < connections.KEEP_ALIVE_S


def test_clients_that_take_nothing_make_room_for_others(small: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", 0.2)
    path = small.wait_for(small.submit()["id"])["images"][0]["url"]
    small.http.close()
    request = f"GET {path}?size=1024 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connected(small.url, receive_buffer=4096)).sendall(request * 50)
        wait_until(lambda: not small.server.connections.waiting)
        wait_until(lambda: exchange(small.url, LAST_POLL).status == 200)


@pytest.mark.crash
def test_a_client_that_reads_slowly_gets_everything(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_S", 3.0)
    with serve() as running, connected(running.url, receive_buffer=4096) as connection:
        ask_for_much(running, connection)
        content, until = bytearray(), time.monotonic() + 7  # more than twice as long as it may take nothing
        while time.monotonic() < until:
            content += connection.recv(8192)
            time.sleep(0.005)
        assert content.count(STATUS) < LARGE
        answers, tail = content.count(STATUS), content[1 - len(STATUS) :]
        while answers < LARGE:
            more = connection.recv(1_000_000)
            assert more
            answers += (tail + more).count(STATUS)
            tail = (tail + more)[1 - len(STATUS) :]


@pytest.mark.parametrize("files", [16, 64, 256, 1024, 4096, 20_000, 1_048_576])
def test_connections_leave_files_for_the_rest_of_the_process(files: int) -> None:
    made = Connections(files)
    assert 16 <= made.limit <= MAX_CONNECTIONS
    assert made.backlog >= 16
    if files >= 256:
        assert made.limit + made.backlog + OWN_FILES <= files


def test_a_web_socket_is_not_opened(shared: RunningService) -> None:
    answer = exchange(
        shared.url,
        b"GET /v1/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "not_found")


def test_a_caller_that_leaves_while_it_sends_leaves_nothing_behind(
    shared: RunningService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    for path in (b"/v1/jobs", b"/v1/images/edits", b"/v1/images/generations"):
        with connected(shared.url) as connection:
            head: Any = b"POST " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 70000\r\n\r\n"
            connection.sendall(head + b" " * 1000)
    wait_until(lambda: not shared.server.server_state.tasks)
    assert not caplog.records
