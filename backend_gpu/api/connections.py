"""Connections of clients: what each may take its time for, how many there may be, and what answers no request."""

import asyncio
import errno
import logging
import math
import resource
import sys
from asyncio import AbstractEventLoop, BaseTransport, Transport
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Literal, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from backend_gpu.api.app import request_id_from
from backend_gpu.api.errors import (
    HeadTooLarge,
    MalformedRequest,
    RequestTimeout,
    TooManyConnections,
    error_response,
)
from backend_gpu.errors import BackendError

logger = logging.getLogger(__name__)
uvicorn_logger = logging.getLogger(f"{__name__}.uvicorn")
uvicorn_logger.setLevel(logging.ERROR)  # it warns of every request that is none; here they are logged like all others

HEAD_S = 30.0  # from the connection's or the head's first byte to the head's last
BODY_S = 60.0  # from the head's end to the body's, wanted or not
KEEP_ALIVE_S = 75  # longer than clients keep an idle connection (httpx: 5 s), else one closes under a request of theirs
LINGER_S = 5.0  # in which a client that still sends can read why it was refused
STALL_S = 120.0  # in which a client must have taken something of its answer
UNREAD_S = 3.0  # and in which it must where others find no room
MAX_HEAD_BYTES = 16 * 1024  # of an incomplete head
MAX_CONNECTIONS = 4096
OWN_FILES = 128  # that the process needs beside connections: database, pictures, weights
MAX_BACKLOG = 2048
MANY_FILES = 10_240  # where the hard limit is none: macOS takes no more
CHECK_INTERVAL_S = 1.0
WARN_EVERY_S = 60.0
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Awaited = Literal["head", "body", "idle", "end"]  # of the client: "idle" is the next request, "end" that it goes


def raise_file_limit() -> int:
    """Let the process open as many files as it may; returns how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (MANY_FILES if hard == resource.RLIM_INFINITY else hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MANY_FILES if soft == resource.RLIM_INFINITY else soft


class Connections(ServerState):
    """All connections of a server, within the number of files that the process may open."""

    def __init__(self, files: int) -> None:
        super().__init__()
        self.backlog = min(MAX_BACKLOG, max(16, files // 8))  # asyncio accepts so many before it looks at any
        self.limit = max(16, min(MAX_CONNECTIONS, files - OWN_FILES - 2 * self.backlog))
        self.waiting: dict[Connection, None] = {}  # without a request in work, the longest waiting first
        self._warned_at = dict.fromkeys(("files", "connections"), -math.inf)

    def make_room(self, newest: "Connection", now: float) -> None:
        """Drop the connection that waits longest if there are too many, or one that does not read; else the newest."""
        if len(self.connections) <= self.limit:
            return
        self._warn_of("connections", now, "there are too many connections: the longest waiting ones are dropped")
        longest_waiting = next(iter(self.waiting))
        if longest_waiting is not newest:
            longest_waiting.drop()
            return
        connections = [cast("Connection", connection) for connection in self.connections]
        unread = [one for one in connections if one.unsent and now - one.taken_at >= UNREAD_S]
        if unread:
            min(unread, key=lambda one: one.taken_at).drop()
        else:
            newest.answer(TooManyConnections(f"all of {self.limit} connections have work: try again in a second", 1.0))

    async def watch(self) -> None:
        """Drop those whose clients are late, for as long as the loop runs."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            now = asyncio.get_running_loop().time()
            for connection in list(self.connections):
                cast("Connection", connection).check(now)

    def on_loop_error(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log a line a minute, not in a thousand tracebacks a second, that no connection can be accepted."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in OUT_OF_FILES and "accept" in context["message"]:
            self._warn_of("files", loop.time(), f"no connection can be accepted: {error.strerror}")
        else:
            loop.default_exception_handler(context)

    def _warn_of(self, what: str, now: float, message: str) -> None:
        if now - self._warned_at[what] >= WARN_EVERY_S:
            self._warned_at[what] = now
            logger.warning(message, extra={"connections": len(self.connections), "limit": self.limit})


class Connection(H11Protocol):
    """uvicorn's connection with deadlines for what its client sends, and answers in the service's own form."""

    awaited: Awaited | None = None  # None: the client waits for us
    due = math.inf  # when that must have come
    unsent = 0  # bytes that the client has still to take, when last looked at
    taken_at = 0.0  # when it last took some

    def connection_made(self, transport: BaseTransport) -> None:
        """Wait for a request, in the place of an older connection if there are too many."""
        super().connection_made(cast("Transport", transport))
        self.logger = uvicorn_logger
        self.peers = cast("Connections", self.server_state)
        self.taken_at = self.loop.time()
        self._await("head")
        self.peers.make_room(self, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.peers.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the client was refused and only reads what it was answered."""
        if self.awaited != "end":
            super().data_received(data)

    def resume_writing(self) -> None:
        """Go on with an answer: its client has taken most of what it was sent."""
        self.taken_at = self.loop.time()
        super().resume_writing()

    def handle_events(self) -> None:
        """See what has come, and what has to come next."""
        super().handle_events()
        if self.awaited == "end":
            return
        if self.conn.their_state is h11.SEND_BODY:
            self._await("body")
        elif self.conn.their_state is not h11.IDLE:
            self._await(None)
        elif self.awaited == "head" or self.conn.trailing_data[0]:
            self._await("head")
        else:
            self._await("idle")

    def _await(self, awaited: Awaited | None) -> None:
        if awaited == self.awaited:
            return  # more of the same: no byte of it gives a client more time
        self.awaited = awaited
        if awaited is None:
            self.due = math.inf
            self.peers.waiting.pop(self, None)
        else:
            allowed_s = {"head": HEAD_S, "body": BODY_S, "idle": KEEP_ALIVE_S, "end": LINGER_S}[awaited]
            self.due = self.loop.time() + allowed_s
            self.peers.waiting[self] = None  # one that waits already keeps its place

    def check(self, now: float) -> None:
        """Drop the connection if its client sends or reads too slowly; one that reads at all may take its time."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent < self.unsent:
            self.taken_at = now
        self.unsent = unsent
        if now - self.taken_at >= STALL_S:
            self.drop()
        elif now >= self.due and (self.awaited == "body" or self.conn.trailing_data[0]):
            allowed_s = BODY_S if self.awaited == "body" else HEAD_S
            self.answer(RequestTimeout(f"the request's {self.awaited} took longer than {allowed_s:.0f} s"))
        elif now >= self.due:
            self.transport.close()  # when the client has taken all of its answer

    def drop(self) -> None:
        """Close it at once; whatever is not sent yet is lost."""
        self.peers.connections.discard(self)
        self.peers.waiting.pop(self, None)
        self.due = math.inf
        self.transport.abort()

    def shutdown(self) -> None:
        """End with what is in work; not with what a client, already answered, still sends."""
        if self.awaited == "end" or (self.awaited == "body" and self.conn.our_state is not h11.SEND_RESPONSE):
            return self.drop()
        super().shutdown()
        if self.awaited == "body":
            self.due = min(self.due, self.loop.time() + LINGER_S)
        return None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 # uvicorn's words; h11's say more
        """Answer what is no request."""
        error = sys.exception()
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == HTTPStatus(431):
            self.answer(HeadTooLarge(f"the request's line and headers are too long, at most {MAX_HEAD_BYTES} bytes"))
        else:
            reason, _, _ = str(error).partition(": bytearray")  # what came stays out of it
            self.answer(MalformedRequest(f"this is no HTTP request that can be read: {reason}"))

    def answer(self, error: BackendError) -> None:
        """Answer in the app's place, if it has not, and end the connection when the client has read that."""
        has_head = self.conn.our_state is h11.SEND_RESPONSE
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or self.transport.is_closing():
            return self.drop()
        given = dict(self.headers).get(b"x-request-id", b"") if has_head else b""
        request_id = request_id_from(given.decode("latin-1"))
        answer = error_response(error)
        headers = [
            *self.server_state.default_headers,
            *answer.raw_headers,
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        reason = HTTPStatus(answer.status_code).phrase.encode()
        parts: list[h11.Event] = [h11.Response(status_code=answer.status_code, headers=headers, reason=reason)]
        if not (has_head and self.scope["method"] == "HEAD"):
            parts.append(h11.Data(data=bytes(answer.body)))
        self.transport.write(b"".join(self.conn.send(part) or b"" for part in [*parts, h11.EndOfMessage()]))
        logger.info("request refused", extra={"status": answer.status_code, "request_id": request_id})
        if has_head:  # the app waits for the rest
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # Closed now, the connection would be reset by what the client still sends, and the answer lost with it
        self.flow.resume_reading()
        with suppress(OSError):  # the client has gone meanwhile
            self.transport.write_eof()
        self._await("end")
        return None
