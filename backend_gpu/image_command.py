"""`python -m backend_gpu image`: from a translation on stdin to PNG files."""

import argparse
import json
import os
import random
import stat
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from backend_gpu.engine import StepReport
from backend_gpu.engine.models import FAMILIES, family_of
from backend_gpu.errors import InvalidRequest
from backend_gpu.files import write_file
from backend_gpu.jobs.png import encode_png
from backend_gpu.jobs.request import MAX_PICTURES, MAX_PROMPT_CHARACTERS, MAX_SEED, JobRequest, JobSubmission
from backend_gpu.settings import Settings, expanded, read_settings
from backend_gpu.streams import write_line


@dataclass(frozen=True)
class Translation:
    """What the page's translator says about a prompt (JSON on stdin)."""

    source: str
    english: str
    translator: str
    unknown_words: list[str]
    not_drawn: list[str] = field(default_factory=list)
    suggestions: dict[str, str] = field(default_factory=dict)


def make_images(options: argparse.Namespace) -> None:
    """Check everything that can be checked at once, then load the model, draw and write.

    Raises:
        InvalidRequest: an option or the translation can't be used.
        BackendError: the model can't be loaded, or a picture not be written.
    """
    count = whole_number("n", options.n, 1, MAX_PICTURES)
    seed = random.randrange(MAX_SEED) if options.seed is None else whole_number("seed", options.seed, 0, MAX_SEED)
    settings = read_settings()
    if options.model:
        if options.model not in FAMILIES:
            raise InvalidRequest(f"there is no model {options.model!r}: choose {' or '.join(FAMILIES)}")
        settings.model = options.model
    info = family_of(settings).describe(settings)
    paths = output_paths(options.out, count)
    translation = read_translation(sys.stdin.buffer.read())
    write_line(f"{translation.source!r} → {translation.english!r}  ({translation.translator})")
    if translation.unknown_words:
        write_line(f"not understood and left out: {', '.join(translation.unknown_words)}", sys.stderr)
    if translation.suggestions:
        write_line(f"perhaps you meant: {suggested(translation)}", sys.stderr)
    if translation.not_drawn and info.vocabulary:
        write_line(f"beyond what the model {settings.model} can draw: {', '.join(translation.not_drawn)}", sys.stderr)
    submission = submission_of(translation, count, seed)
    draw_and_write(settings, JobRequest.of(submission, info), paths)


def suggested(translation: Translation) -> str:
    """The words that the unknown ones were probably meant to be."""
    return ", ".join(f"{known} for {unknown}" for unknown, known in translation.suggestions.items())


def submission_of(translation: Translation, count: int, seed: int) -> JobSubmission:
    """What to draw, with the model's own choices.

    Raises:
        InvalidRequest: a text has what no prompt may have.
    """
    try:
        return JobSubmission(
            prompt=translation.english,
            source_prompt=translation.source,
            translator=translation.translator,
            n=count,
            seed=seed,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(f"{first['loc'][0]}: {first['msg']}") from error


def draw_and_write(settings: Settings, request: JobRequest, paths: list[Path]) -> None:
    """Draw one picture per path and say how long each stage took."""
    from tqdm import tqdm  # here, like torch behind it: bad input is answered at once

    stopwatch = Stopwatch()
    engine = family_of(settings).open(settings)
    if unknown := engine.check_prompt(request.prompt):
        write_line(f"the model {engine.info.model} was not trained on: {', '.join(unknown)}", sys.stderr)
    stopwatch.note("load")
    batch = request.batch_settings(engine.info)
    pictures = []
    with tqdm(total=sum(batch.steps.values()), unit="step", leave=False, disable=None) as bar:
        for drawn in engine.generate(request.drawings(), batch):
            if isinstance(drawn, StepReport):
                bar.set_description(drawn.stage)
                bar.update()
                stopwatch.note(drawn.stage)
            else:
                pictures = list(drawn)
    for index, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
        write_file(path, encode_png(picture, request, index, engine.info))
        write_line(f"{path}  seed {request.seed_of(index)}")
    stopwatch.note("write")
    write_line("  ".join(f"{name} {seconds:.2f} s" for name, seconds in stopwatch.seconds.items()))


class Stopwatch:
    """Seconds of parts that follow one another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._noted_at = time.perf_counter()

    def note(self, part: str) -> None:
        """What has passed since the last note belongs to this part."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._noted_at
        self._noted_at = now


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


def read_translation(text: bytes) -> Translation:
    """Read and check the translator's answer.

    Raises:
        InvalidRequest: it is no translation, or there is nothing to draw in it.
    """
    try:
        fields = json.loads(text)
        json.dumps(fields, ensure_ascii=False).encode()  # half a character, as JSON may escape it, is no text
        translation = Translation(**fields)
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
