"""Translate one prompt offline: `python -m frontend_streamlit.translation -- "青い背景に赤いりんご"` prints JSON."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from frontend_streamlit.translation.offline import DEFAULT_DATA_DIR, OfflineTranslator

MAX_PROMPT_CHARACTERS = 1000


def main() -> int:
    """Print the translation; a prompt that can't be one is told in one line, with exit code 2."""
    parser = argparse.ArgumentParser(prog="frontend_streamlit.translation", description=__doc__)
    parser.add_argument("prompt")
    parser.add_argument("--mini-dir", type=Path, default=DEFAULT_DATA_DIR, help="folder of the mini model's tables")
    options = parser.parse_args()
    prompt = options.prompt
    if not prompt.strip():
        print("error: the prompt is empty: say what to draw", file=sys.stderr)
        return 2
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        print(f"error: the prompt has {len(prompt)} characters, at most {MAX_PROMPT_CHARACTERS}", file=sys.stderr)
        return 2
    translator = OfflineTranslator(options.mini_dir)
    print(json.dumps(asdict(translator.translate(prompt)), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
