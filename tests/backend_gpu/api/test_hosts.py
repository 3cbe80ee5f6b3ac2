"""By which names the service may be called: no web page may make its own name lead here."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.backend_gpu.api.raw_connection import RawAnswer, exchange
from tests.backend_gpu.api.running_service import RunningService, Serve, error_of, running_service

TOKEN = "s3cret-token"
OUR_NAMES = [
    *("localhost", "LocalHost:8000", "localhost.", "localhost.:8000", "kotoe.localhost", "a.b.localhost:80"),
    *("127.0.0.1", "127.0.0.1:8000", "127.0.0.1:", "127.1.2.3", "127.255.255.254:65535"),
    *("[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]:8000", "[::ffff:127.0.0.1]:8000"),
]
OTHER_NAMES = [
    *("evil.example", "evil.example:8000", "localhost.evil.example", "evillocalhost", "127.0.0.1.evil.example"),
    *("1.2.3.4", "128.0.0.1", "0.0.0.0", "0.0.0.0:8000", "127.0.0.256", "10.0.0.1", "169.254.169.254"),
    *("[::]", "[::2]:8000", "[::ffff:1.2.3.4]", "[fe80::1]", "::1", "[::1", "::1]:80", "[::1]evil.example"),
    *("localhost@evil.example", "evil.example#localhost", "localhost/evil", "localhost,evil.example", "a b"),
    *("localhost:80:80", "localhost:port", ".localhost", "..", "", "*", "null", "é.localhost", "127.0.0.1\tevil"),
]


def call(url: str, host: str | None, target: str = "/v1/status", version: str = "1.1") -> RawAnswer:
    line = "" if host is None else f"Host: {host}\r\n"
    request = f"GET {target} HTTP/{version}\r\n{line}Connection: close\r\n\r\n"
    return exchange(url, request.encode("latin-1"))


@pytest.mark.parametrize("host", OUR_NAMES)
def test_names_of_this_machine_are_answered(shared: RunningService, host: str) -> None:
    assert call(shared.url, host).status == 200


@pytest.mark.parametrize("path", ["/v1/status", "/healthz", "/readyz", "/metrics", "/docs", "/nothing"])
@pytest.mark.parametrize("host", ["evil.example", "[::2]"])
def test_no_path_is_answered_under_another_name(shared: RunningService, host: str, path: str) -> None:
    answer = call(shared.url, host, path)
    assert (answer.status, answer.error["code"], answer.error["type"]) == (421, "wrong_host", "invalid_request_error")


@pytest.mark.parametrize("host", OTHER_NAMES)
def test_another_name_is_told_what_to_do(shared: RunningService, host: str) -> None:
    answer = call(shared.url, host)
    assert answer.status == 421
    for part in ("127.0.0.1", "BACKEND_PUBLIC_URL", "BACKEND_TOKEN"):
        assert part in answer.error["message"]


def test_a_page_of_another_name_makes_no_job(shared: RunningService) -> None:
    body = json.dumps({"prompt": "a red apple", "owner": "rebound"})
    for path in ("/v1/jobs", "/v1/images/generations"):
        request = f"POST {path} HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\n"
        answer = exchange(
            shared.url, f"{request}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert answer.status == 421
    assert shared.store.of_owner("rebound", 1) == []
    assert shared.store.of_owner("openai", 1) == []


def test_a_caller_that_names_no_host_means_the_address_that_it_called(shared: RunningService) -> None:
    assert call(shared.url, None, version="1.0").status == 200
    assert call(shared.url, "evil.example", version="1.0").status == 421


def test_two_hosts_are_none(shared: RunningService) -> None:
    for version in ("1.0", "1.1"):
        answer = call(shared.url, "localhost\r\nHost: evil.example", version=version)
        assert (answer.status, answer.error["code"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/v1/status", "localhost", 200),
        ("HTTP://127.0.0.1:8000/v1/status?a=b", "evil.example", 200),
        ("http://[::1]:8000/v1/status", "localhost", 200),
        ("https://localhost/v1/status", "localhost", 200),
        ("http://localhost/v1/nothing", "localhost", 404),
        ("http://localhost", "localhost", 404),
        ("http://evil.example/v1/status", "localhost", 421),
        ("http://localhost@evil.example/v1/status", "localhost", 421),
        ("http:///v1/status", "localhost", 421),
    ],
)
def test_the_name_in_an_absolute_target_counts(shared: RunningService, target: str, host: str, status: int) -> None:
    assert call(shared.url, host, target).status == status


def test_the_operators_own_names_are_answered(serve: Serve) -> None:
    with serve(public_url="https://Pictures.Example:8443/kotoe/") as running:
        statuses = [call(running.url, host).status for host in ("pictures.example", "PICTURES.example.:1", "localhost")]
        others = [call(running.url, host).status for host in ("example", "a.pictures.example", "pictures.example.com")]
    assert (statuses, others) == ([200] * 3, [421] * 3)


def test_the_address_that_it_was_set_to_listen_on_is_answered(serve: Serve) -> None:
    with serve(host="192.168.7.1") as running:
        assert [call(running.url, host).status for host in ("192.168.7.1:8000", "192.168.7.2")] == [200, 421]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("guarded"), token=TOKEN) as running:
        yield running


@pytest.mark.parametrize("host", ["evil.example", "backend:8000", "10.0.0.1", "kotoe_backend"])
def test_with_a_token_any_name_is_answered(guarded: RunningService, host: str) -> None:
    assert guarded.http.get("/v1/status", headers={"Host": host}).status_code == 200
    assert httpx.get(f"{guarded.url}/readyz", headers={"Host": host}).status_code == 200
    error_of(httpx.get(f"{guarded.url}/v1/status", headers={"Host": host}), 401, "invalid_api_key")


def picture_url(running: RunningService, host: str) -> Any:
    body = {"prompt": "a red apple", "response_format": "url"}
    answer = running.http.post("/v1/images/generations", json=body, headers={"Host": host})
    return urlsplit(answer.json()["data"][0]["url"])


@pytest.mark.parametrize("host", ["backend:8000", "pictures.example", "[::1]:8000", "10.0.0.1"])
def test_a_signed_url_has_the_name_that_the_caller_used(guarded: RunningService, host: str) -> None:
    assert picture_url(guarded, host).netloc == host


@pytest.mark.parametrize("host", ["a@evil.example", "evil.example/x?", 'a"b', "[::1", "a b", ""])
def test_a_signed_url_never_has_a_name_that_is_none(guarded: RunningService, host: str) -> None:
    url = picture_url(guarded, host)
    assert url.netloc == urlsplit(guarded.url).netloc
    assert httpx.get(url.geturl()).status_code == 200
