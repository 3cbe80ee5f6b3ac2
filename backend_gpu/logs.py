"""One line per event: JSON for a log collector (Cloud Logging's `severity`), plain text on a terminal."""

import logging
import sys
from contextvars import ContextVar
from typing import TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

request_id: ContextVar[str] = ContextVar("request_id", default="")
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "request_id",
    "taskName",
    "color_message",
}


def configure_logging() -> None:
    """Send all logs to stderr; entry points call it once."""
    logging.basicConfig(level=logging.INFO, handlers=[log_handler(sys.stderr)], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def log_handler(stream: TextIO) -> logging.Handler:
    """Writes lines of the kind that reads well where the stream goes."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(add_request_id)
    if stream.isatty():
        handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(
            JsonFormatter(
                "%(levelname)s %(name)s %(message)s",
                rename_fields={"levelname": "severity", "name": "logger"},
                timestamp="time",  # RFC 3339 in UTC, as Cloud Logging reads it
                json_ensure_ascii=False,
                reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # of uvicorn
            )
        )
    return handler


def add_request_id(record: logging.LogRecord) -> bool:
    """Note which request a line belongs to: the one at hand, else the one that the line came with."""
    if request_id.get():
        record.request_id = request_id.get()
    return True


class PlainFormatter(logging.Formatter):
    """The message, then what it came with."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in STANDARD}
        return " ".join([super().format(record), *(f"{name}={value}" for name, value in extra.items())])
