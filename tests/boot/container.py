"""Stands in for the backend's container: needs a moment to be ready, then tells the status that /mnt/status says."""

import re
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

LOADING_S = 1.0
arguments = " ".join(sys.argv[1:])
environment = Path(re.findall(r"--env-file (\S+)", arguments)[0]).read_text(encoding="utf-8")
token = environment.partition("BACKEND_TOKEN=")[2].strip()
started_at = time.monotonic()


class Backend(BaseHTTPRequestHandler):
    """The three calls that the machine makes."""

    def do_GET(self) -> None:
        is_ready = time.monotonic() - started_at > LOADING_S
        if self.path == "/readyz":
            self.answer(200 if is_ready else 503, b"{}")
        elif self.path == "/v1/status" and self.headers["Authorization"] == f"Bearer {token}":
            with Path("/mnt/checks").open("a", encoding="utf-8") as checks:
                checks.write("x")
            self.answer(200, Path("/mnt/status").read_bytes())
        else:
            self.answer(401, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("127.0.0.1", 8000), Backend).serve_forever()
