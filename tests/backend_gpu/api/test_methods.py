"""HEAD wherever GET is, and what a wrong method is told."""

import pytest

from tests.backend_gpu.api.raw_connection import exchange
from tests.backend_gpu.api.running_service import RunningService, Serve, error_of

OF_THE_MOMENT = ("date", "x-request-id")
PATHS = [
    *("/healthz", "/readyz", "/openapi.json", "/docs", "/metrics", "/v1/status", "/v1/models", "/v1/models/dall-e-3"),
    *("/v1/jobs?owner=nobody", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/events"),
    *("/v1/jobs/{job_id}/images/0.png", "/v1/jobs/{job_id}/images/0.webp?size=512"),
    *("/v1/nothing", "/v1/jobs", "/v1/jobs/x", "/v1/models/none", "/v1/jobs/{job_id}/images/7.png"),  # errors
    *("/v1/images/edits", "/v1/images/generations"),
]


@pytest.fixture(scope="module")
def job_id(shared: RunningService) -> str:
    return str(shared.wait_for(shared.submit()["id"])["id"])


@pytest.mark.parametrize("path", PATHS)
def test_head_has_the_status_and_headers_of_get_and_nothing_else(
    shared: RunningService, job_id: str, path: str
) -> None:
    path = path.format(job_id=job_id)
    if path == "/v1/status":
        path += "?"  # its length may change between two calls
    get, head = shared.http.get(path), shared.http.head(path)
    assert head.status_code == get.status_code
    lengths = OF_THE_MOMENT + (("content-length",) if path in ("/metrics", "/v1/status?") else ())
    assert stable(dict(head.headers), lengths) == stable(dict(get.headers), lengths)
    assert ("content-length" in head.headers) == ("content-length" in get.headers)
    raw = exchange(shared.url, f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert (raw.status, raw.body) == (get.status_code, b"")


def stable(headers: dict[str, str], without: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in without}


def test_head_of_a_job_that_goes_on_ends_at_once(serve: Serve) -> None:
    with serve() as running:
        running.engine.hold()
        path = f"/v1/jobs/{running.submit()['id']}/events"
        for _ in range(3):  # on one connection
            head = running.http.head(path)
            assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert not running.server.server_state.tasks or running.http.get("/healthz").status_code == 200


def test_head_needs_the_token_where_get_does(serve: Serve) -> None:
    with serve(token="s3cret") as running:
        del running.http.headers["Authorization"]
        statuses = [running.http.head(path).status_code for path in ("/healthz", "/v1/status", "/v1/nothing")]
    assert statuses == [200, 401, 401]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/status", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        (f"/v1/jobs/{'0' * 32}", "GET, HEAD"),
        (f"/v1/jobs/{'0' * 32}/cancel", "POST"),
        (f"/v1/jobs/{'0' * 32}/events", "GET, HEAD"),
        (f"/v1/jobs/{'0' * 32}/images/0.png", "GET, HEAD"),
        ("/v1/images/generations", "POST"),
        ("/v1/models", "GET, HEAD"),
    ],
)
@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS", "BREW"])
def test_a_wrong_method_is_told_all_right_ones(shared: RunningService, path: str, methods: str, method: str) -> None:
    answer = shared.http.request(method, path)
    error_of(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == methods


def test_every_listed_method_is_answered(shared: RunningService) -> None:
    for path in ("/v1/jobs", "/v1/images/generations", f"/v1/jobs/{'0' * 32}/cancel", "/v1/status"):
        allowed = shared.http.request("BREW", path).headers["allow"].split(", ")
        for method in ("GET", "HEAD", "POST"):
            assert (shared.http.request(method, path).status_code != 405) == (method in allowed)
