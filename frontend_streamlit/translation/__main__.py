"""Translate one prompt as the page does: `python -m frontend_streamlit.translation -- "赤いりんご"` prints JSON."""

import argparse
import io
import json
import locale
import os
import sys
from dataclasses import asdict

from pydantic import ValidationError

from frontend_streamlit.settings import Settings, first_mistake
from frontend_streamlit.streams import open_streams, write_line
from frontend_streamlit.translation import TranslationError
from frontend_streamlit.translation.choose import choose_translator

MAX_PROMPT_CHARACTERS = 1000


def main() -> int:
    """Print the translation; an error is one line on stderr, with exit code 2, or 1 if trying again later may help."""
    open_streams()
    parser = argparse.ArgumentParser(prog="frontend_streamlit.translation", description=__doc__)
    parser.add_argument("prompt")
    typed = parser.parse_args().prompt
    try:
        prompt = as_typed(typed)
        prompt.encode()
    except UnicodeError:
        write_line("error: the prompt is no text: it must be in UTF-8, or as the locale says", sys.stderr)
        return 2
    if not prompt.strip():
        write_line("error: the prompt is empty: say what to draw", sys.stderr)
        return 2
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        write_line(f"error: the prompt has {len(prompt)} characters, at most {MAX_PROMPT_CHARACTERS}", sys.stderr)
        return 2
    try:
        translation = choose_translator(Settings()).translate(prompt)
    except ValidationError as error:
        write_line(f"error: {first_mistake(error)}", sys.stderr)
        return 2
    except TranslationError as error:
        write_line(f"error: it could not be translated: {str(error) or type(error).__name__}", sys.stderr)
        return 1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="ascii")  # whatever the locale: another program reads it
    write_line(json.dumps(asdict(translation)))
    return 0


def as_typed(argument: str) -> str:
    """An argument of the command line, read as UTF-8 if it is that, whatever the locale says; else as the locale says.

    Raises:
        UnicodeError: it is neither.
    """
    try:
        typed = os.fsencode(argument)
    except UnicodeError:  # the locale's two tables differ
        return argument
    try:
        return typed.decode("utf-8")
    except UnicodeDecodeError:
        return typed.decode(locale.getencoding())


if __name__ == "__main__":
    sys.exit(main())
