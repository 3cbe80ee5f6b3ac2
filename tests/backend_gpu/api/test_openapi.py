"""The OpenAPI document: complete, true, and with examples that work."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import Case
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from backend_gpu.api.errors import (
    ANSWER_TO,
    BadOrigin,
    HeadTooLarge,
    MalformedRequest,
    RequestTimeout,
    TooManyConnections,
)
from backend_gpu.api.schemas import JobDocument
from backend_gpu.errors import BackendError, CheckpointError, InvalidTransition
from backend_gpu.jobs.request import OWNER
from tests.backend_gpu.api.running_service import RunningService, running_service

TOKEN = "s3cret-token"
NEVER_AN_ANSWER = {BackendError, CheckpointError, InvalidTransition}
OF_NO_CALL = {BadOrigin, HeadTooLarge, MalformedRequest, RequestTimeout, TooManyConnections}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    limits: dict[str, Any] = {"max_queued_jobs": 1000, "max_jobs_per_owner": 1000, "quota_pictures": 1_000_000}
    with running_service(tmp_path_factory.mktemp("page"), token=TOKEN, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def document(service: RunningService) -> dict[str, Any]:
    return dict(service.http.get("/openapi.json").json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_page_shows_the_document(service: RunningService) -> None:
    answer = service.http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in answer.text


def test_every_field_of_every_schema_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {"JobSubmission", "JobDocument", "ImageGeneration", "ImagesResponse", "ErrorDocument"} <= set(schemas)
    undescribed = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, described in schema.get("properties", {}).items()
        if not described.get("description")
    ]
    assert undescribed == []
    assert all(schema["description"] for schema in schemas.values())


def test_every_call_parameter_and_answer_is_described(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["description"], name
        assert operation["tags"], name
        assert all(parameter["description"] for parameter in operation.get("parameters", [])), name
        for status, response in operation["responses"].items():
            assert response["description"] not in ("", "Successful Response"), (name, status)
            assert ("content" in response) == (status != "204"), (name, status)
            assert "x-request-id" in response["headers"], (name, status)


def test_every_error_is_documented_in_the_form_that_it_has(document: dict[str, Any]) -> None:
    codes = set()
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status < "400":
                continue
            (content,) = response["content"].values()
            assert content["schema"] == {"$ref": "#/components/schemas/ErrorDocument"}, (name, status)
            for code, example in content["examples"].items():
                assert example["value"]["error"]["code"] == code
                codes.add((int(status), code))
            assert ("Retry-After" in response["headers"]) == (status in ("429", "503")), (name, status)
    sent = set(ANSWER_TO) - NEVER_AN_ANSWER - OF_NO_CALL
    assert codes == {(ANSWER_TO[kind].status, ANSWER_TO[kind].code) for kind in sent}


def test_a_job_always_has_every_field_of_its_request(document: dict[str, Any]) -> None:
    request = document["components"]["schemas"]["JobRequestDocument"]
    assert set(request["required"]) == set(request["properties"])


def test_a_call_that_needs_the_model_says_that_it_may_be_loading(document: dict[str, Any]) -> None:
    needing = {
        name
        for name, operation in operations(document)
        if "model_loading" in str(operation["responses"].get("503", {}).get("content"))
    }
    assert {"GET /v1/models", "GET /v1/models/{model_id}", "GET /v1/models/{model_id}/sprites.webp"} <= needing


def test_there_is_no_422_anywhere(document: dict[str, Any]) -> None:
    assert not [name for name, operation in operations(document) if "422" in operation["responses"]]
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])


def test_all_but_the_probes_ask_for_the_token(document: dict[str, Any]) -> None:
    unguarded = {name for name, operation in operations(document) if not operation.get("security")}
    assert unguarded == {"GET /healthz", "GET /readyz"}
    for name, operation in operations(document):
        assert ("401" in operation["responses"]) == (name not in unguarded)


def request_examples(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        body = methods.get("post", {}).get("requestBody")
        if body:
            schema = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            for example in document["components"]["schemas"][schema]["examples"]:
                yield path, example


def test_every_example_of_a_request_is_accepted_as_it_stands(service: RunningService, document: dict[str, Any]) -> None:
    examples = list(request_examples(document))
    assert {path for path, _ in examples} == {"/v1/jobs", "/v1/images/generations"}
    for path, example in examples:
        answer = service.http.post(path, json=example)
        assert answer.status_code in (200, 202), (example, answer.text)


def test_every_example_of_a_parameter_is_accepted(service: RunningService, document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        method, path = name.split()
        examples = {p["name"]: p["examples"][0] for p in operation.get("parameters", []) if "examples" in p}
        if examples:
            assert service.http.request(method, path.format(**examples), params=examples).status_code == 200, name


def test_the_example_of_a_job_is_a_job(document: dict[str, Any]) -> None:
    for example in document["components"]["schemas"]["JobDocument"]["examples"]:
        JobDocument.model_validate(example)


@pytest.fixture(scope="module")
def api(service: RunningService, document: dict[str, Any]) -> Any:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=service.url)
    return schema


OPERATIONS = [
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/jobs",
    "GET /v1/jobs/{job_id}",
    "GET /v1/jobs/{job_id}/events",
    "GET /v1/jobs/{job_id}/images/{index}.{image_format}",
    "GET /v1/models",
    "GET /v1/models/{model_id}",
    "GET /v1/models/{model_id}/sprites.webp",
    "GET /v1/status",
    "POST /v1/images/generations",
    "POST /v1/jobs",
    "POST /v1/jobs/{job_id}/cancel",
]
REFUSED_FOR_THEIR_MEANING = {"POST /v1/images/generations", "POST /v1/jobs"}  # Japanese, another model, spaces alone
WITHOUT_INPUT = {"GET /healthz", "GET /metrics", "GET /readyz", "GET /v1/models", "GET /v1/status"}


def test_every_call_is_in_the_document(document: dict[str, Any]) -> None:
    assert sorted(name for name, _ in operations(document)) == OPERATIONS


def is_good_list(name: str, query: Mapping[str, Any]) -> bool:
    """Whether a request meant to be refused asks rightly for a list: an unknown parameter may be called `owner` too."""
    return name == "GET /v1/jobs" and bool(OWNER.fullmatch(str(query.get("owner")))) and "limit" not in query


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, GenerationMode.POSITIVE) for name in OPERATIONS]
    + [(name, GenerationMode.NEGATIVE) for name in OPERATIONS if name not in WITHOUT_INPUT],
)
def test_every_answer_is_as_documented(api: Any, name: str, mode: GenerationMode) -> None:
    method, path = name.split()
    excluded: Any = [positive_data_acceptance] if name in REFUSED_FOR_THEIR_MEANING else []

    @given(case=api[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def call(case: Case[Any]) -> None:
        assume(mode is GenerationMode.POSITIVE or not is_good_list(name, case.query))
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=excluded)

    call()
