"""Stands in for Google's metadata server: gives a token, keeps guest attributes, one a line."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Metadata(BaseHTTPRequestHandler):
    """Answers as the server does, to those who ask as it wants to be asked."""

    def do_GET(self) -> None:
        self.answer(b'{"access_token":"ya29.access","expires_in":3599,"token_type":"Bearer"}')

    def do_PUT(self) -> None:
        value = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with Path("/mnt/attributes").open("a", encoding="utf-8") as attributes:
            attributes.write(f"{self.path.rpartition('/')[2]} {value}\n")
        self.answer(b"")

    def answer(self, body: bytes) -> None:
        self.send_response(200 if self.headers["Metadata-Flavor"] == "Google" else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("169.254.169.254", 80), Metadata).serve_forever()
