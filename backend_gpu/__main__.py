"""The backend's command line: `python -m backend_gpu` serves; with `image` it turns a translation into PNG files."""

import argparse
import json
import logging
import os
import random
import signal
import stat
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from backend_gpu.errors import BackendError, InvalidRequest
from backend_gpu.settings import ModelName, Settings, expanded, let_waiting_threads_sleep
from backend_gpu.streams import open_streams, tell

MAX_PROMPT_CHARACTERS = 1000
MAX_SEED = 2**32 - 1
MAX_PICTURES = 8


@dataclass(frozen=True)
class Translation:
    """What the page's translator says about a prompt (JSON on stdin)."""

    source: str
    english: str
    translator: str
    unknown_words: list[str]
    not_drawn: list[str] = field(default_factory=list)
    suggestions: dict[str, str] = field(default_factory=dict)


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
    image.add_argument("--model", help=f"{' or '.join(get_args(ModelName))}; BACKEND_MODEL if absent")
    options = parser.parse_args()
    let_waiting_threads_sleep()
    try:
        if options.command == "image":
            make_images(options)
        else:
            serve(read_settings())
    except BackendError as error:
        tell(f"error: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        tell("stopped", sys.stderr)
        return 130
    return 0


def serve(settings: Settings) -> None:
    """Run the service until it is told to stop.

    Raises:
        BackendError: it can't start; the message says what to change.
    """
    from backend_gpu.api.hosts import is_local

    if not settings.token.get_secret_value() and not is_local(settings.host):
        raise InvalidRequest(
            f"BACKEND_HOST is {settings.host} and there is no BACKEND_TOKEN: set one, or listen on 127.0.0.1 only"
        )

    from backend_gpu.api.server import Server, listen
    from backend_gpu.engine import Engine
    from backend_gpu.logs import configure_logging
    from backend_gpu.service import build_service

    def open_engine() -> Engine:
        from backend_gpu.engine.glide import open_engine as open_local  # torch: in the worker's thread, not before

        return open_local(settings.model, settings.device, settings.checkpoints, settings.mini_dir)

    configure_logging()
    listener = listen(settings.host, settings.port)
    server = Server(build_service(settings, open_engine))
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, server.handle_exit)  # at once; and after it has stopped uvicorn raises the signal once more
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    logging.getLogger(__name__).info("listening", extra={"address": address})
    server.run(sockets=[listener])


def make_images(options: argparse.Namespace) -> None:
    """Check everything that can be checked at once, then load the model, draw and write."""
    count = whole_number("n", options.n, 1, MAX_PICTURES)
    seed = random.randrange(MAX_SEED) if options.seed is None else whole_number("seed", options.seed, 0, MAX_SEED)
    settings = read_settings()
    name = options.model or settings.model
    if name not in get_args(ModelName):
        raise InvalidRequest(f"there is no model {name!r}: choose {' or '.join(get_args(ModelName))}")
    paths = output_paths(options.out, count)
    translation = read_translation(sys.stdin.buffer.read())
    tell(f"{translation.source!r} → {translation.english!r}  ({translation.translator})")
    if translation.unknown_words:
        tell(f"not understood and left out: {', '.join(translation.unknown_words)}", sys.stderr)
    if translation.suggestions:
        tell(f"perhaps you meant: {suggested(translation)}", sys.stderr)
    if translation.not_drawn and name == "mini":
        tell(f"beyond what the model mini can draw: {', '.join(translation.not_drawn)}", sys.stderr)
    draw_and_write(translation, name, settings, seed, paths)


def suggested(translation: Translation) -> str:
    """The words that the unknown ones were probably meant to be."""
    return ", ".join(f"{known} for {unknown}" for unknown, known in translation.suggestions.items())


def draw_and_write(translation: Translation, name: ModelName, settings: Settings, seed: int, paths: list[Path]) -> None:
    """Draw one picture per path and say how long each stage took."""
    started_at = time.perf_counter()
    from tqdm import tqdm  # torch and what needs it are imported here: bad input is told at once

    from backend_gpu.engine import StepReport
    from backend_gpu.engine.glide import open_engine
    from backend_gpu.gallery import encode_png, write_picture
    from backend_gpu.jobs.job import JobRequest

    engine = open_engine(name, settings.device, settings.checkpoints, settings.mini_dir)
    info = engine.info
    if unknown := engine.check_prompt(translation.english):
        tell(f"the model {info.model} was not trained on: {', '.join(unknown)}", sys.stderr)
    loaded_at = time.perf_counter()
    request = JobRequest(
        prompt=translation.english,
        source_prompt=translation.source,
        translator=translation.translator,
        owner="",
        seed=seed,
        n=len(paths),
        guidance_scale=info.guidance_scale,
        steps=info.steps,
        upsample_steps=info.upsample_steps,
        sampler=info.sampler,
        upscale=True,
        model=info.model,
    )
    ended_at = {}
    with tqdm(total=request.steps + request.upsample_steps, unit="step", leave=False, disable=None) as bar:

        def on_step(report: StepReport) -> None:
            bar.set_description(report.stage)
            bar.update()
            ended_at[report.stage] = time.perf_counter()

        pixels = engine.generate(request.drawings(), request.batch_settings(), on_step)
    for index, (path, picture) in enumerate(zip(paths, pixels, strict=True)):
        write_picture(path, encode_png(picture, request.record(index, info.model_hash)))
        tell(f"{path}  seed {request.seed_of(index)}")
    written_at = time.perf_counter()
    stages = {
        "load": loaded_at - started_at,
        "base": ended_at["base"] - loaded_at,
        "upsample": ended_at["upsample"] - ended_at["base"],
        "write": written_at - ended_at["upsample"],
    }
    tell("  ".join(f"{stage} {seconds:.2f} s" for stage, seconds in stages.items()))


def whole_number(name: str, text: str, least: int, most: int) -> int:
    """Read a number that the user typed.

    Raises:
        InvalidRequest: it is none, or out of range.
    """
    if text.isascii() and text.isdigit() and least <= int(text) <= most:
        return int(text)
    raise InvalidRequest(f"{name} is {text!r}, must be a whole number from {least} to {most}")


def output_paths(out: Path, count: int) -> list[Path]:
    """Where the pictures go.

    Raises:
        InvalidRequest: not a PNG in a folder that exists, or one that can't be written.
    """
    try:
        out = expanded(out)
    except ValueError as error:
        raise InvalidRequest(f"{out}: {error}") from error
    if out.name.lower() == ".png":
        raise InvalidRequest(f"{out} has no name before .png: choose one, such as apple.png")
    if out.suffix.lower() != ".png":
        raise InvalidRequest(f"{out} does not end in .png: pictures are written as PNG, such as apple.png")
    paths = [out] if count == 1 else [out.with_stem(f"{out.stem}-{number}") for number in range(1, count + 1)]
    try:
        if not out.parent.is_dir():
            raise InvalidRequest(f"the folder {out.parent} does not exist: create it, or choose another")
        for path in paths:
            check_name(path)
    except (OSError, ValueError) as error:  # such as a longer path than the system takes, or a NUL in it
        raise InvalidRequest(f"can't write {out}: {getattr(error, 'strerror', None) or error}") from error
    try:
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise InvalidRequest(f"can't write to the folder {out.parent}: {error.strerror}") from error
    return paths


def check_name(path: Path) -> None:
    """See that a picture may have this path, in a folder that exists.

    Raises:
        InvalidRequest: it may not.
        OSError, ValueError: the system does not take the path.
    """
    length, most = len(os.fsencode(path.name)), os.pathconf(path.parent, "PC_NAME_MAX")
    if 0 < most < length:
        raise InvalidRequest(f"the file name {path.name} has {length} bytes, at most {most}: choose a shorter one")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise InvalidRequest(f"{path} is a folder: choose another name")
    if not os.access(path, os.W_OK):
        raise InvalidRequest(f"{path} is there and read-only: choose another name")


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        InvalidRequest: a setting has an impossible value.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"BACKEND_{str(first['loc'][0]).upper()}"
        value = "set" if name == "BACKEND_TOKEN" else repr(first["input"])  # a secret is not shown
        raise InvalidRequest(f"{name} is {value}: {first['msg']}") from error


def read_translation(text: bytes) -> Translation:
    """Read and check the translator's answer.

    Raises:
        InvalidRequest: it is no translation, or there is nothing to draw in it.
    """
    try:
        told = json.loads(text)
        json.dumps(told, ensure_ascii=False).encode()  # half a character, as JSON may escape it, is no text
        translation = Translation(**told)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(
            "stdin is not a translation: it must be JSON as frontend_streamlit.translation prints"
        ) from error
    if not translation.source.strip():
        raise InvalidRequest("the prompt is empty: say what to draw")
    if len(translation.source) > MAX_PROMPT_CHARACTERS or len(translation.english) > MAX_PROMPT_CHARACTERS:
        length = max(len(translation.source), len(translation.english))
        raise InvalidRequest(f"the prompt has {length} characters, at most {MAX_PROMPT_CHARACTERS}")
    if not translation.english:
        words = ", ".join(translation.unknown_words)
        hint = f" (perhaps you meant: {suggested(translation)})" if translation.suggestions else ""
        raise InvalidRequest(f"no word of the prompt is known to the offline translator: {words}{hint}")
    return translation


if __name__ == "__main__":
    sys.exit(main())
