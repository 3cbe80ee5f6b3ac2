"""The backend's command line: `python -m backend_gpu` serves; with `image` it turns a translation into PNG files."""

import argparse
import logging
import signal
import sys
from pathlib import Path

from backend_gpu.engine.models import FAMILIES, family_of
from backend_gpu.errors import BackendError, InvalidRequest
from backend_gpu.image_command import make_images
from backend_gpu.jobs.request import MAX_PICTURES, MAX_SEED
from backend_gpu.settings import Settings, let_waiting_threads_sleep, read_settings
from backend_gpu.streams import open_streams, write_line


def main() -> int:
    """Run one command; a failure is one line on stderr and exit code 2."""
    open_streams()
    settings = "\n".join(
        f"  BACKEND_{name.upper():20} {field.description} [{field.get_default()}]"
        for name, field in Settings.model_fields.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m backend_gpu",
        description="Without a command: the service, until SIGTERM or Ctrl-C.",
        epilog=f"settings, from the environment:\n{settings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command")
    image = commands.add_parser("image", help="make pictures from the translation (JSON) on stdin")
    image.add_argument(
        "--out", type=Path, required=True, help="a .png file; several pictures get -1, -2, … before .png"
    )
    image.add_argument("--seed", help=f"0 to {MAX_SEED}; random if absent; picture i uses seed + i")
    image.add_argument("--n", default="1", help=f"number of pictures, 1 to {MAX_PICTURES}")
    image.add_argument("--model", help=f"{' or '.join(FAMILIES)}; BACKEND_MODEL if absent")
    options = parser.parse_args()
    let_waiting_threads_sleep()
    try:
        if options.command == "image":
            make_images(options)
        else:
            serve(read_settings())
    except BackendError as error:
        write_line(f"error: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        write_line("stopped", sys.stderr)
        return 130
    return 0


def serve(settings: Settings) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Raises:
        BackendError: it can't start; the message says what to change.
    """
    # Here and not above: the image command needs no HTTP
    from backend_gpu.api.hosts import is_local
    from backend_gpu.api.server import Server, listen
    from backend_gpu.logs import configure_logging
    from backend_gpu.service import build_service

    if not settings.token.get_secret_value() and not is_local(settings.host):
        raise InvalidRequest(
            f"BACKEND_HOST is {settings.host} and there is no BACKEND_TOKEN: set one, or listen on 127.0.0.1 only"
        )
    family = family_of(settings)
    configure_logging()
    listener = listen(settings.host, settings.port)
    server = Server(build_service(settings, family))
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, server.handle_exit)  # at once; and after it has stopped uvicorn raises the signal once more
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    logging.getLogger(__name__).info("listening", extra={"address": address})
    server.run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
