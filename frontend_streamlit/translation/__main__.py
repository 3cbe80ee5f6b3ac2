"""Translate one prompt as the page does: `python -m frontend_streamlit.translation -- "赤いりんご"` prints JSON."""

import argparse
import json
import sys
from dataclasses import asdict

from pydantic import ValidationError

from frontend_streamlit.clients import choose_translator
from frontend_streamlit.settings import Settings, first_mistake
from frontend_streamlit.translation import TranslationError

MAX_PROMPT_CHARACTERS = 1000


def main() -> int:
    """Print the translation; what is wrong is told in one line, with exit code 2, or 1 if it may work later."""
    parser = argparse.ArgumentParser(prog="frontend_streamlit.translation", description=__doc__)
    parser.add_argument("prompt")
    prompt = parser.parse_args().prompt
    if not prompt.strip():
        print("error: the prompt is empty: say what to draw", file=sys.stderr)
        return 2
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        print(f"error: the prompt has {len(prompt)} characters, at most {MAX_PROMPT_CHARACTERS}", file=sys.stderr)
        return 2
    try:
        translation = choose_translator(Settings()).translate(prompt)
    except ValidationError as error:
        print(f"error: {first_mistake(error)}", file=sys.stderr)
        return 2
    except TranslationError as error:
        print(f"error: it could not be translated: {str(error) or type(error).__name__}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(translation), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
