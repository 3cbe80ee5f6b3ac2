"""Pages of other sites: off, unless the operator names them."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from backend_gpu.settings import Settings
from tests.backend_gpu.api.running_service import RunningService, Serve, error_of, running_service

TOKEN = "s3cret-token"
SITE = "https://pictures.example"
ASKED = "Access-Control-Request-Method"
ALLOWED = "access-control-allow-origin"


@pytest.fixture(scope="module")
def open_to_sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    origins = f"{SITE}, http://localhost:3000"
    with running_service(tmp_path_factory.mktemp("sites"), token=TOKEN, cors_origins=origins) as running:
        yield running


def preflight(running: RunningService, origin: str, method: str = "POST", **headers: str) -> httpx.Response:
    return httpx.options(f"{running.url}/v1/jobs", headers={"Origin": origin, ASKED: method} | headers)


def test_no_site_may_call_unless_it_is_named(shared: RunningService) -> None:
    answers = [preflight(shared, SITE), shared.http.get("/v1/status", headers={"Origin": SITE})]
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", [SITE, "http://localhost:3000"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_browser_may_ask_for_a_named_site_without_the_token(
    open_to_sites: RunningService, origin: str, method: str
) -> None:
    wanted = "authorization,content-type,idempotency-key,last-event-id,x-stainless-retry-count"
    answer = preflight(open_to_sites, origin, method, **{"Access-Control-Request-Headers": wanted})
    assert answer.status_code == 200
    assert answer.headers[ALLOWED] == origin
    assert answer.headers["x-request-id"]
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    listed = answer.headers["access-control-allow-headers"].lower()
    assert set(wanted.split(",")) <= {name.strip() for name in listed.split(",")}


@pytest.mark.parametrize(
    ("origin", "method"),
    [
        ("https://evil.example", "POST"),
        ("null", "POST"),
        ("http://pictures.example", "GET"),
        (f"{SITE}:8443", "GET"),
        (f"{SITE}.evil.example", "GET"),
        (SITE, "DELETE"),
    ],
)
def test_other_sites_and_methods_are_refused_in_the_form_that_errors_have(
    open_to_sites: RunningService, origin: str, method: str
) -> None:
    answer = preflight(open_to_sites, origin, method)
    assert "BACKEND_CORS_ORIGINS" in error_of(answer, 400, "origin_not_allowed")["message"]
    if origin != SITE:
        assert ALLOWED not in answer.headers


def test_answers_and_errors_can_be_read_by_a_named_site_alone(open_to_sites: RunningService) -> None:
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/v1/status", {}),
        ("GET", "/v1/nothing", {}),
        ("DELETE", "/v1/jobs", {}),
        ("POST", "/v1/jobs", {"json": {"prompt": ""}}),
        ("POST", "/v1/jobs", {"content": b" " * 70_000}),
        ("GET", "/v1/status", {"headers": {"Authorization": "Bearer wrong"}}),
    ]
    statuses = []
    for method, path, fields in calls:
        for origin in (SITE, "https://evil.example"):
            headers = {"Origin": origin} | fields.get("headers", {})
            answer = open_to_sites.http.request(method, path, **fields | {"headers": headers})
            assert answer.headers.get(ALLOWED) == (SITE if origin == SITE else None)
            assert "Origin" in answer.headers["vary"]
            if origin == SITE:
                exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
                assert {"x-request-id", "retry-after"} <= set(exposed)
        statuses.append(answer.status_code)
    assert statuses == [200, 404, 405, 400, 413, 401]


def test_a_surprise_can_be_read_by_a_named_site(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the inside")

    with serve(cors_origins=SITE) as running:
        monkeypatch.setattr(running.store, "of_owner", broken)
        answer = running.http.get("/v1/jobs?owner=a", headers={"Origin": SITE})
    error_of(answer, 500, "internal_error")
    assert answer.headers[ALLOWED] == SITE


def test_a_named_site_may_call_a_service_on_the_browsers_own_machine(open_to_sites: RunningService) -> None:
    asked = {
        "Origin": SITE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Private-Network": "true",
    }
    answer = open_to_sites.http.options("/v1/jobs", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-private-network"] == "true"
    refusal = open_to_sites.http.options("/v1/jobs", headers=asked | {"Origin": "https://evil.example"})
    assert error_of(refusal, 400, "origin_not_allowed")["param"] == "Origin"


def test_a_named_site_follows_a_job(open_to_sites: RunningService) -> None:
    job_id = open_to_sites.submit()["id"]
    with open_to_sites.http.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Origin": SITE}) as answer:
        assert answer.headers[ALLOWED] == SITE
        answer.read()


def test_a_star_is_every_site(serve: Serve) -> None:
    with serve(cors_origins="*") as running:
        answers = [preflight(running, SITE), running.http.get("/v1/status", headers={"Origin": "null"})]
    assert [(answer.status_code, answer.headers[ALLOWED]) for answer in answers] == [(200, "*")] * 2


@pytest.mark.parametrize(
    ("written", "origins"),
    [
        ("", []),
        ("*", ["*"]),
        ("https://A.example", ["https://a.example"]),
        ("https://a.example:443,http://a.example:80", ["https://a.example", "http://a.example"]),
        ("https://a.example:80 , http://a.example:443,", ["https://a.example:80", "http://a.example:443"]),
        ("http://[::1]:3000", ["http://[::1]:3000"]),
        ("chrome-extension://abcdef", ["chrome-extension://abcdef"]),
        ("https://xn--8dbq2a.example", ["https://xn--8dbq2a.example"]),
    ],
)
def test_origins_are_read_as_browsers_send_them(written: str, origins: list[str]) -> None:
    assert Settings.model_validate({"cors_origins": written}).allowed_origins == origins


@pytest.mark.parametrize(
    "written",
    [
        *("pictures.example", "https://a.example/", "https://a.example/path", "https://", "//a.example", "null"),
        *("https://*.example", "https://a.example;https://b.example", "https://a.example https://b.example"),
        *("https://user@a.example", "https://a.example:port", "https://言絵.example", "https://a.example?x", "**"),
    ],
)
def test_what_is_no_origin_is_refused_at_the_start(written: str) -> None:
    with pytest.raises(ValidationError, match="is no origin: write scheme, host"):
        Settings.model_validate({"cors_origins": written})


@pytest.mark.parametrize(
    "url", ["", "http://a.example", "https://a.example:8443/kotoe/", "http://[::1]:8000", "HTTP://A"]
)
def test_an_address_is_taken_as_the_operator_writes_it(url: str) -> None:
    assert Settings.model_validate({"public_url": url}).public_url == url


@pytest.mark.parametrize(
    "url",
    ["a.example", "a.example:8000", "ftp://a.example", "https://", "https://a b", "https://a.example/?x=1", "//a"],
)
def test_what_nobody_can_open_is_no_address(url: str) -> None:
    with pytest.raises(ValidationError, match="an address is http:// or https://"):
        Settings.model_validate({"public_url": url})
