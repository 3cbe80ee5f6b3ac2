"""A connection on which a test sends any bytes it likes."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.backend_gpu.waiting import WAIT_S


@dataclass
class RawAnswer:
    """What came back before the connection was closed."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> dict[str, Any]:
        """What it tells, in the one form that errors have."""
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-request-id"]
        body = json.loads(self.body)
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        return dict(body["error"])


@contextmanager
def connected(url: str, receive_buffer: int = 0) -> Iterator[socket.socket]:
    """Connect to a service; with a small buffer, what is not read here soon waits over there."""
    address = httpx.URL(url)
    with socket.socket() as connection:
        connection.settimeout(WAIT_S)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect((address.host, address.port or 80))
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, in whatever way."""
    content = b""
    with suppress(ConnectionError):
        while data := connection.recv(65536):
            content += data
    return content


def answer_in(content: bytes) -> RawAnswer:
    head, _, body = content.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return RawAnswer(int(first.split()[1]), headers, body)


def exchange(url: str, request: bytes) -> RawAnswer:
    """Send a request, all of it whatever comes meanwhile, and read the answer until the connection is closed."""
    with connected(url) as connection:
        connection.sendall(request)
        return answer_in(read_all(connection))
