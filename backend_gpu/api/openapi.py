"""The OpenAPI document and the page that shows it, behind the token like all else."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse

NEVER_SENT = ("HTTPValidationError", "ValidationError")  # FastAPI's own 422: bad input is 400 here
REQUEST_ID = {
    "description": "The caller's own `x-request-id`, or one made here; it stands in the service's log.",
    "schema": {"type": "string"},
}
RETRY_AFTER = {"description": "Seconds to wait, at most 120.", "schema": {"type": "integer", "minimum": 1}}

routes = APIRouter(include_in_schema=False)


@routes.get("/openapi.json")
async def read_document(request: Request) -> JSONResponse:
    """What there is to call."""
    return JSONResponse(request.app.openapi())


@routes.get("/docs")
async def read_page() -> HTMLResponse:
    """The document for people."""
    return get_swagger_ui_html(openapi_url="/openapi.json", title="Kotoe")


def correct_document(app: FastAPI) -> None:
    """Let the app's document say what this service answers, in place of FastAPI's defaults."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = corrected(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way


def corrected(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with what this service answers."""
    for name in NEVER_SENT:
        document["components"]["schemas"].pop(name, None)
    for schema in document["components"]["schemas"].values():
        for example in schema.get("examples", []):
            restore_nulls(example, schema)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for operation in operations:
        operation["responses"].pop("422", None)
        for status, response in operation["responses"].items():
            response["headers"] = {"x-request-id": REQUEST_ID}
            if status in ("429", "503"):
                response["headers"]["Retry-After"] = RETRY_AFTER
            if status >= "400":  # an error is JSON, whatever the call answers else
                contents = response["content"].values()
                content = {key: value for part in contents for key, value in part.items()}
                for example in content["examples"].values():
                    restore_nulls(example["value"]["error"], document["components"]["schemas"]["ErrorInfo"])
                response["content"] = {"application/json": content}
    return document


def restore_nulls(example: dict[str, Any], schema: dict[str, Any]) -> None:
    """Put back what FastAPI leaves out of examples."""
    for field in schema.get("required", []):
        example.setdefault(field, None)
