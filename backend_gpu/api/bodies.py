"""Bodies of requests: read with a limit, JSON taken as strictly as its standard has it, and when two are the same."""

import hashlib
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from backend_gpu.api.errors import BodyTooLarge
from backend_gpu.errors import BadParameter

MAX_BODY_BYTES = 64 * 1024


class BodyRoute(APIRoute):
    """A route that reads its whole body before anything else does; paths that are none read nothing."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind this reading."""
        handler = super().get_route_handler()
        if self.methods == {"GET"}:
            return handler

        async def handle(request: Request) -> Response:
            body = await read_body(request)
            given = JsonRequest(request.scope, request.receive)
            given.content = body
            if self.body_field:
                check_media_type(request.headers.get("content-type", ""))
                given.document = read_json(body) if body else None
            return await handler(given)

        return handle


class JsonRequest(Request):
    """A request whose body has been read."""

    content = b""
    document: Any = None

    async def body(self) -> bytes:
        return self.content

    async def json(self) -> Any:
        return self.document


async def read_body(request: Request) -> bytes:
    """The whole body, counted while it comes, whatever its headers say.

    Raises:
        BodyTooLarge: as soon as there is too much.
        ClientDisconnect: the caller has gone.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"the body has more than {MAX_BODY_BYTES} bytes")
    return body


def check_media_type(content_type: str) -> None:
    """Take JSON alone: a page of another site can send forms and plain text unasked.

    Raises:
        BadParameter: it is said to be something else, or nothing is said.
    """
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    if kind != "application" or not (subtype == "json" or subtype.endswith("+json")):
        instead = f"not as {content_type[:80]!r}" if content_type else "and this request has no Content-Type"
        raise BadParameter(f"send the body as JSON with the header 'Content-Type: application/json', {instead}", "body")


class NoNumber(ValueError):
    """NaN or Infinity, which Python's reader would take."""


def refuse_constant(name: str) -> NoReturn:
    raise NoNumber(name)


def check_characters(document: Any) -> None:
    r"""Refuse half a surrogate pair, which JSON can write ("\ud800") and UTF-8 can't, wherever it stands.

    Raises:
        BadParameter: there is one.
    """
    for name, value in document.items() if isinstance(document, dict) else [("body", document)]:
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"U+{ord(error.object[error.start]):04X}"
            raise BadParameter(
                f"{name}: Input should be Unicode text, without half a character ({half})", name
            ) from error


DECODER = json.JSONDecoder(parse_constant=refuse_constant)


def read_json(body: bytes) -> Any:
    """What a body says.

    Raises:
        BadParameter: it is not JSON in UTF-8.
    """
    try:
        document = DECODER.decode(body.decode())
        check_characters(document)
        return document
    except UnicodeDecodeError as error:
        raise BadParameter(f"the body is not JSON in UTF-8: {error.reason} at {error.start}", "body") from error
    except json.JSONDecodeError as error:
        if body.startswith(b"\xef\xbb\xbf"):
            raise BadParameter("the body starts with a byte order mark: send UTF-8 without one", "body") from error
        raise BadParameter(f"the body is not JSON: {error.msg} at {error.pos}", "body") from error
    except NoNumber as error:
        field = re.search(rf'"(\w+)"\s*:\s*{error}', body.decode())
        param = field[1] if field else "body"
        raise BadParameter(f"{param}: {error} is no number in JSON", param) from error
    except RecursionError as error:
        raise BadParameter("the body is not JSON that can be read: it is nested too deeply", "body") from error
    except ValueError as error:  # a number of thousands of digits
        raise BadParameter(f"the body is not JSON that can be read: {error}", "body") from error


def fingerprint_of(body: BaseModel) -> str:
    """The same for two bodies that ask for the same."""
    return hashlib.sha256(body.model_dump_json().encode()).hexdigest()
