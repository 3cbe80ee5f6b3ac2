"""The HTTP server of the process: uvicorn, made to end what has begun in good order."""

import asyncio
import math
import socket

import uvicorn
from sse_starlette.sse import AppStatus

from backend_gpu.api.app import create_app
from backend_gpu.api.connections import KEEP_ALIVE_S, MAX_HEAD_BYTES, Connection, Connections, raise_file_limit
from backend_gpu.errors import InvalidRequest
from backend_gpu.service import Service

SEND_BUFFER_BYTES = 128 * 1024  # else the kernel takes megabytes for a client that reads slowly, or never
STREAMS_GRACE_S = 5  # that open connections have to end after the last batch


class Server(uvicorn.Server):
    """Serves one service; on its way out, whoever waits for the running batch still learns how that ends."""

    def __init__(self, service: Service) -> None:
        self.connections = Connections(raise_file_limit())
        super().__init__(
            uvicorn.Config(
                create_app(service),
                http=Connection,
                loop="asyncio",
                ws="none",
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                backlog=self.connections.backlog,
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(service.settings.grace_s) + STREAMS_GRACE_S,
            )
        )
        self.server_state = self.connections
        self.service = service
        AppStatus.enable_automatic_graceful_drain = False  # it would cut every stream at once

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening."""
        asyncio.get_running_loop().set_exception_handler(self.connections.on_loop_error)
        self.watching = asyncio.create_task(self.connections.watch())  # ends with the loop
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening and stop taking jobs at once; then let batch, streams and answers end."""
        drawing_ends = asyncio.create_task(asyncio.to_thread(self.service.queue.stop_drawing))
        await super().shutdown(sockets)
        await drawing_ends


def listen(host: str, port: int) -> socket.socket:
    """Take a port at once (0: a free one), so that one in use ends the start with one line.

    Raises:
        InvalidRequest: it can't be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(f"BACKEND_HOST is {host!r}: there is no such address or host name") from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0] is not socket.AF_INET)  # IPv4 if it has both
    try:
        listener = socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        raise InvalidRequest(
            f"can't listen on {host}:{port} ({error.strerror}): free it, or set BACKEND_HOST and BACKEND_PORT"
        ) from error
    # Connections inherit it; asyncio sets it for none that come from a listener made so, and every answer would wait
    # 40 ms for its first half to be acknowledged
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return listener
