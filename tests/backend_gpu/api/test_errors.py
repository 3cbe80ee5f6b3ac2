"""Errors over HTTP: one form, whatever went wrong."""

import json
import logging
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from backend_gpu.api.errors import ANSWER_TO, MAX_RETRY_AFTER_S, error_response
from backend_gpu.errors import BackendError, ModelLoading, QueueFull, RateLimited, ServiceStopping, TryLater
from tests.backend_gpu.api.raw_connection import connected, read_all
from tests.backend_gpu.api.running_service import RunningService, Serve, error_of
from tests.backend_gpu.waiting import wait_until

JSON = {"Content-Type": "application/json"}


def subclasses(kind: type[BackendError]) -> Iterator[type[BackendError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from subclasses(subclass)


@pytest.mark.parametrize("kind", sorted(set(subclasses(BackendError)) - {TryLater}, key=str))
def test_every_error_has_a_status_a_type_and_a_code(kind: type[BackendError]) -> None:
    answer = ANSWER_TO[kind]
    assert 400 <= answer.status < 600
    assert answer.type in ("invalid_request_error", "authentication_error", "rate_limit_error", "server_error")
    assert (answer.type == "server_error") == (answer.status >= 500)
    assert re.fullmatch("[a-z_]+", answer.code)


@pytest.mark.parametrize("kind", [ModelLoading, QueueFull, RateLimited, ServiceStopping])
@pytest.mark.parametrize(("seconds", "header"), [(0.01, "1"), (7.4, "7"), (3600, str(MAX_RETRY_AFTER_S))])
def test_retry_after_is_whole_seconds_that_clients_accept(kind: Any, seconds: float, header: str) -> None:
    assert error_response(kind("later", seconds)).headers["retry-after"] == header


def test_an_unknown_path_is_not_found(shared: RunningService) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/jobs/", "/redoc"):
        assert error_of(shared.http.get(path), 404, "not_found")["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "body"),
        (b"{", "at 1"),
        (b"[1]", "body"),
        (b"null", "body"),
        (b'"text"', "body"),
        (b'{"prompt": "a" "b"}', "at 15"),
        (b"\xff\xfe\xfd", "body"),
        (b'{"prompt": "\xff"}', "body"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
def test_a_body_that_is_no_json_object_is_refused(shared: RunningService, path: str, body: bytes, part: str) -> None:
    answer = shared.http.post(path, content=body, headers=JSON)
    assert answer.status_code == 400
    assert part in error_of(answer, 400, answer.json()["error"]["code"])["message"]


BROKEN = {
    "NaN": b'{"prompt": "a", "guidance_scale": NaN}',
    "NaN in an unknown field": b'{"prompt": "a", "whatever": [NaN]}',
    "-Infinity": b'{"prompt": "a", "guidance_scale": -Infinity}',
    "depth of lists": b'{"prompt": ' + b"[" * 60_000,
    "depth of objects": b'{"prompt": ' + b'{"a":' * 12_000,
    "whole depth": b'{"prompt": "a", "user": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "digits": b'{"prompt": "a", "seed": ' + b"9" * 60_000 + b"}",
    "UTF-8": b'{"prompt": "\xff"}',
    "Shift JIS": '{"prompt": "りんご"}'.encode("shift_jis"),
    "half a character": '{"prompt": "あ"}'.encode()[:-4] + b'"}',
    "raw surrogate": b'{"prompt": "\xed\xa0\x80"}',
    "UTF-16": '{"prompt": "a"}'.encode("utf-16"),
    "UTF-16 without mark": '{"prompt": "a"}'.encode("utf-16-le"),
    "UTF-32": '{"prompt": "a"}'.encode("utf-32"),
    "byte order mark": b'\xef\xbb\xbf{"prompt": "a"}',
    "comment": b'{"prompt": "a"} // b',
    "single quotes": b"{'prompt': 'a'}",
    "form": b"prompt=a",
    "zeros": b"\0" * 10,
}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_json_that_is_broken_is_the_callers_fault(shared: RunningService, path: str, body: bytes) -> None:
    for kind in ("application/json", "application/json; charset=utf-16"):
        error = error_of(shared.http.post(path, content=body, headers={"Content-Type": kind}), 400, "invalid_value")
        assert len(error["message"]) < 200


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize(
    "kind",
    [
        *(None, "", "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "json", "text/json"),
        *(
            "multipart/form-data; boundary=x",
            "application/octet-stream",
            "application/jsonp",
            "x/json; application/json",
        ),
    ],
)
def test_a_body_that_is_not_said_to_be_json_is_told_how_to_say_so(
    shared: RunningService, path: str, kind: str | None
) -> None:
    """A form or a script of another site sends the first kinds without asking."""
    before = shared.store.count("succeeded")
    for body in (json.dumps({"prompt": "a red apple"}).encode(), b"prompt=a", b""):
        headers = {} if kind is None else {"Content-Type": kind}
        error = error_of(shared.http.post(path, content=body, headers=headers), 400, "invalid_value")
        assert "Content-Type: application/json" in error["message"]
    assert shared.store.count("succeeded") == before


@pytest.mark.parametrize(
    "kind",
    ["application/json", "application/json; charset=utf-8", "Application/JSON ;charset=UTF-8", "application/ld+json"],
)
def test_every_way_to_say_json_is_taken(shared: RunningService, kind: str) -> None:
    body = json.dumps({"prompt": "a red apple"}).encode()
    assert shared.http.post("/v1/jobs", content=body, headers={"Content-Type": kind}).status_code == 202


def test_a_call_without_a_body_needs_no_kind(shared: RunningService) -> None:
    job_id = shared.submit()["id"]
    for fields in ({}, {"content": b"whatever"}, {"data": {"a": "b"}}):
        assert shared.http.post(f"/v1/jobs/{job_id}/cancel", **fields).status_code == 200


def test_a_message_names_the_value_and_the_limit(shared: RunningService) -> None:
    message = error_of(shared.http.post("/v1/jobs", json={"prompt": "a", "n": 9}), 400, "invalid_value")["message"]
    assert "n: " in message
    assert "8" in message
    assert "9" in message


def test_a_long_wrong_value_is_not_sent_back(shared: RunningService) -> None:
    answer = shared.http.post("/v1/jobs", json={"prompt": "x" * 1001})
    assert "xxxxx" not in error_of(answer, 400, "invalid_value")["message"]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations", f"/v1/jobs/{'0' * 32}/cancel"])
@pytest.mark.parametrize("size", [64 * 1024 + 1, 5_000_000])
def test_a_body_over_64_kib_is_refused(shared: RunningService, path: str, size: int) -> None:
    error = error_of(shared.http.post(path, content=b" " * size, headers=JSON), 413, "body_too_large")
    assert str(64 * 1024) in error["message"]


def test_a_body_without_a_length_is_refused_while_it_still_comes(shared: RunningService) -> None:
    host, port = shared.http.base_url.host, shared.http.base_url.port
    with socket.create_connection((host, port or 80), timeout=10) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            connection.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")  # and no end
        assert connection.recv(12) == b"HTTP/1.1 413"


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
@pytest.mark.parametrize("size", [70_000, 20_000_000])
def test_a_caller_that_reads_only_after_it_has_sent_sees_the_refusal(
    shared: RunningService, size: int, close: bytes
) -> None:
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n" + close + b"Content-Length: %d\r\n\r\n" % size
    with connected(shared.url) as connection:
        connection.sendall(head + b" " * size)
        assert connection.recv(12) == b"HTTP/1.1 413"
        if not close:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            assert b"HTTP/1.1 200" in read_all(connection)


def test_a_caller_that_asks_before_it_sends_is_refused_at_once(serve: Serve) -> None:
    with serve(token="s3cret") as running, connected(running.url) as connection:
        head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        connection.sendall(head)
        assert connection.recv(12) == b"HTTP/1.1 401"


def test_a_body_of_64_kib_is_read(shared: RunningService) -> None:
    body = json.dumps({"prompt": "a red apple"}).encode().ljust(64 * 1024)
    assert shared.http.post("/v1/jobs", content=body, headers=JSON).status_code == 202
    chunks = iter([body[:100], body[100:]])
    assert shared.http.post("/v1/jobs", content=chunks, headers=JSON).status_code == 202


def test_a_caller_that_goes_away_while_it_sends_harms_nobody(shared: RunningService) -> None:
    def broken() -> Iterator[bytes]:
        yield b'{"prompt": '
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        httpx.post(f"{shared.url}/v1/jobs", content=broken(), headers=JSON)
    assert shared.http.get("/healthz").status_code == 200


def test_a_surprise_is_a_500_that_tells_nothing_of_the_inside(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the inside")

    with serve() as running:
        monkeypatch.setattr(running.store, "of_owner", broken)
        answer = running.http.get("/v1/jobs?owner=a", headers={"x-request-id": "surprise-1"})
        assert running.http.get("/healthz").status_code == 200
    error = error_of(answer, 500, "internal_error")
    assert "the inside" not in answer.text
    assert error["type"] == "server_error"
    assert answer.headers["x-request-id"] == "surprise-1"
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.getMessage() == "a request failed"
    assert record.exc_info
    assert "the inside" in str(record.exc_info[1])


def test_an_answer_that_breaks_off_does_not_look_whole(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serve() as running:
        running.engine.hold()
        job_id = running.submit()["id"]

        def broken(*_: object) -> None:
            raise RuntimeError("the inside")

        with running.http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            lines = answer.iter_lines()
            next(lines)
            monkeypatch.setattr(running.store, "get", broken)
            running.feed.publish_all()
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        monkeypatch.undo()
    (logged,) = [vars(record) for record in caplog.records if record.getMessage() == "a request failed"]
    assert logged["job_id"] == job_id


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/status", "/metrics", "/v1/models", "/nothing"])
def test_a_request_id_is_sent_back(shared: RunningService, path: str) -> None:
    assert shared.http.get(path, headers={"x-request-id": "my-id_1.2"}).headers["x-request-id"] == "my-id_1.2"


@pytest.mark.parametrize("given", [None, "", "a b", "a" * 65, "id\u00e9", "<script>"])
def test_a_request_without_a_proper_id_gets_one(shared: RunningService, given: str | None) -> None:
    headers = {} if given is None else {"x-request-id": given.encode("latin-1")}
    made = {shared.http.get("/v1/status", headers=headers).headers["x-request-id"] for _ in range(2)}  # type: ignore[arg-type]  # bytes go too
    assert len(made) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in made)


def test_a_service_that_cannot_write_is_not_ready_and_says_why(serve: Serve) -> None:
    with serve() as running:
        connection = running.store.database.connection
        connection.execute("PRAGMA query_only = 1")
        error = error_of(running.http.get("/readyz"), 503, "storage_unavailable")
        assert running.http.get("/healthz").status_code == 200
        connection.execute("PRAGMA query_only = 0")
        assert running.http.get("/readyz").status_code == 200
    assert "free some space or make it writable" in error["message"]


def test_a_service_whose_pictures_wait_for_the_disk_is_not_ready_and_says_why(serve: Serve) -> None:
    with serve(storage_retry_s=0.05) as running:
        running.pictures.folder.write_text("not a folder")
        job_id = running.submit()["id"]
        wait_until(lambda: running.http.get("/readyz").status_code == 503)
        error = error_of(running.http.get("/readyz"), 503, "storage_unavailable")
        running.pictures.folder.unlink()
        assert running.wait_for(job_id)["status"] == "succeeded"
        wait_until(lambda: running.http.get("/readyz").status_code == 200)
    assert "can't keep the pictures" in error["message"]


@pytest.mark.parametrize("pragma", ["query_only = 1", "max_page_count = 1"], ids=["read-only", "full disk"])
def test_a_data_folder_that_cannot_be_written_refuses_jobs_and_loses_none(serve: Serve, pragma: str) -> None:
    with serve() as running:
        job = running.wait_for(running.submit()["id"])
        connection = running.store.database.connection
        connection.execute(f"PRAGMA {pragma}")
        if pragma.startswith("max"):
            for _ in range(40):  # until the last page is full
                answer = running.http.post("/v1/jobs", json={"prompt": "a", "source_prompt": "x" * 1000})
                if answer.status_code != 202:
                    break
        else:
            answer = running.http.post("/v1/jobs", json={"prompt": "a"})
        error = error_of(answer, 503, "storage_unavailable")
        assert 1 <= int(answer.headers["retry-after"]) <= MAX_RETRY_AFTER_S
        assert running.job(job["id"]) == job
        connection.execute("PRAGMA query_only = 0")
        connection.execute("PRAGMA max_page_count = 1000000")
        assert running.wait_for(running.submit()["id"])["status"] == "succeeded"
    assert "free some space or make it writable" in error["message"]


def test_pictures_are_served_while_the_gallery_is_down_and_delivered_later(serve: Serve, tmp_path: Any) -> None:
    root = tmp_path / "gallery"
    root.write_text("a file where a folder should be")
    with serve(gallery=str(root)) as running:
        running.worker.outputs.delivery.retry_interval_s = 0.05
        job = running.wait_for(running.submit(n=2)["id"])
        assert job["status"] == "succeeded"
        answers = [running.http.get(image["url"]) for image in job["images"]]
        root.unlink()
        wait_until(lambda: running.store.get(job["id"]).is_delivered)
        later = [running.http.get(image["url"]) for image in job["images"]]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [path.read_bytes() for path in sorted(root.rglob("*.png"))] == [answer.content for answer in answers]
    assert [answer.content for answer in later] == [answer.content for answer in answers]


def test_a_gallery_that_went_down_after_delivery_is_told_as_such(serve: Serve, tmp_path: Any) -> None:
    root = tmp_path / "gallery"
    with serve(gallery=str(root)) as running:
        job = running.wait_for(running.submit()["id"])
        wait_until(lambda: running.store.get(job["id"]).is_delivered)
        root.rename(tmp_path / "away")
        root.write_text("a file where a folder should be")
        error_of(running.http.get(job["images"][0]["url"]), 503, "gallery_unavailable")


def test_nothing_is_logged_as_an_error_that_the_caller_did(shared: RunningService, caplog: Any) -> None:
    caplog.set_level(logging.WARNING)
    shared.http.post("/v1/jobs", json={"prompt": ""})
    shared.http.get("/v1/nothing")
    shared.http.post("/v1/jobs", content=b" " * 100_000)
    assert not caplog.records
