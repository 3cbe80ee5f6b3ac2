import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = {
    "run",
    "image",
    "docker-up",
    "test",
    "test-crash",
    "test-terraform",
    "test-containers",
    "deploy",
    "destroy",
    "lint",
    "check",
    "bench",
    "mini-train",
    "mini-eval",
    "mini-grid",
    "mini-sheet",
    "constraints",
    "clean",
}
TRANSLATION = '{"source": "りんご", "english": "an apple", "translator": "offline", "unknown_words": []}'

# Stands in for the interpreter: keeps the arguments and the standard input of either process in files beside itself.
STUB = f"""#!/bin/sh
here="$(dirname "$0")"
case "$2" in
frontend_streamlit)
    env > "$here/environment" ;;
frontend_streamlit.translation)
    printf '%s\\0' "$@" > "$here/translator_arguments"
    [ ! -e "$here/translator_fails" ] || {{ echo 'no known word' >&2; exit 2; }}
    echo '{TRANSLATION}' ;;
backend_gpu)
    printf '%s\\0' "$@" > "$here/backend_arguments"
    cat > "$here/backend_input" ;;
backend_gpu.training)
    echo "$3 $4" >> "$here/trained"
    [ ! -e "$here/training_stops" ] || exit 130 ;;
esac
"""

NASTY_PROMPTS = {
    "quotes": """赤い'りんご'と"猫" \\"犬\\" """.strip(),
    "make functions": "$(shell touch pwned) ${PATH} $(error no)",
    "dollars": "$HOME $$ $1 $",
    "backticks": "`touch pwned`",
    "a second command": "猫; touch pwned & touch pwned | touch pwned #",
    "lines": "青い背景に\n赤いりんご\n\ttouch pwned",
    "an option": "--help",
    "a format": "100% %s %d \\n \\",
    "an assignment": "a=b := ?= c",
    "a glob": "* ?? [a-z] ~ {a,b}",
}


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make as a user would."""
    done = make_bytes(*arguments, **environment)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def make_bytes(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Likewise; the make that runs these tests leaves no traces in the environment."""
    dropped = {
        "MAKEFLAGS",
        "MAKEOVERRIDES",
        "MAKELEVEL",
        "MFLAGS",
        "PROMPT",
        "OUT",
        "SEED",
        "N",
        "MODEL",
        "MINUTES",
        "FOLDER",
    }
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=kept | environment, capture_output=True, check=False, timeout=120
    )


def arguments_in(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\0")[:-1]


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(STUB, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("arguments", [(), ("help",)])
def test_make_alone_and_make_help_list_every_target(arguments: tuple[str, ...]) -> None:
    done = make(*arguments)
    assert done.returncode == 0, done.stderr
    assert {line.split()[1] for line in done.stdout.splitlines()} == TARGETS | {"help"}


@pytest.mark.parametrize("arguments", [(), ("OUT=apple.png",), ("PROMPT=", "OUT=apple.png"), ("PROMPT=りんご",)])
def test_image_without_prompt_or_out_says_so_in_one_line(stub: Path, arguments: tuple[str, ...]) -> None:
    done = make("image", f"PYTHON={stub}", *arguments)
    ours = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode == 2
    assert done.stdout == ""
    assert ours == ['make image needs PROMPT and OUT: make image PROMPT="青い背景に赤いりんご" OUT=apple.png']
    assert not list(stub.parent.glob("*_arguments"))


@pytest.mark.parametrize("prompt", NASTY_PROMPTS.values(), ids=NASTY_PROMPTS)
@pytest.mark.parametrize("through", ["command line", "environment"])
def test_image_hands_over_the_prompt_unchanged(stub: Path, prompt: str, through: str) -> None:
    arguments = [f"PROMPT={prompt}"] if through == "command line" else []
    environment = {} if arguments else {"PROMPT": prompt}
    done = make("image", f"PYTHON={stub}", "OUT=apple.png", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    assert arguments_in(stub.parent / "translator_arguments") == ["-m", "frontend_streamlit.translation", "--", prompt]
    assert not (ROOT / "pwned").exists()


def test_image_hands_the_translation_and_the_options_to_the_backend(stub: Path) -> None:
    done = make("image", f"PYTHON={stub}", "PROMPT=りんご", "OUT=a b$(shell x)'.png", "SEED=7", "N=2", "MODEL=glide")
    assert done.returncode == 0, done.stderr
    options = ["--out=a b$(shell x)'.png", "--seed=7", "--n=2", "--model=glide"]
    assert arguments_in(stub.parent / "backend_arguments") == ["-m", "backend_gpu", "image", *options]
    assert (stub.parent / "backend_input").read_text(encoding="utf-8") == f"{TRANSLATION}\n"


def test_image_leaves_unset_options_to_the_backend(stub: Path) -> None:
    make("image", f"PYTHON={stub}", "PROMPT=りんご", "OUT=apple.png")
    assert arguments_in(stub.parent / "backend_arguments") == ["-m", "backend_gpu", "image", "--out=apple.png"]


def test_image_stops_with_2_where_the_translation_fails(stub: Path) -> None:
    (stub.parent / "translator_fails").touch()
    done = make("image", f"PYTHON={stub}", "PROMPT=らりるれろ", "OUT=apple.png")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "no known word"
    assert not (stub.parent / "backend_arguments").exists()


def test_recipes_find_the_modules_beside_them_and_take_file_names_as_utf_8(stub: Path) -> None:
    done = make("run", f"PYTHON={stub}", PYTHONSAFEPATH="1", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    environment = (stub.parent / "environment").read_text(encoding="utf-8").splitlines()
    assert "PYTHONUTF8=1" in environment
    assert not [line for line in environment if line.startswith("PYTHONSAFEPATH=")]


def test_a_picture_is_made_where_python_looks_for_no_modules_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "りんご 1.png"
    locale = {"PYTHONIOENCODING": "latin-1", "PYTHONSAFEPATH": "1"}
    done = make("image", f"PYTHON={sys.executable}", "PROMPT=赤いりんご", f"OUT={out}", "SEED=1", **locale)
    assert done.returncode == 0, done.stderr
    assert r"'\u8d64\u3044\u308a\u3093\u3054' \u2192 'a red apple'" in done.stdout
    assert out.exists()


@pytest.mark.parametrize(
    ("language", "encoding", "printed"),
    [
        pytest.param(
            *("en_US", "ISO-8859-1", r"'\u8d64\u3044\u308a\u3093\u3054' \u2192 'a red apple'"), marks=pytest.mark.crash
        ),
        ("ja_JP", "EUC-JP", "'赤いりんご' → 'a red apple'"),
    ],
)
def test_file_names_are_utf_8_and_the_output_is_as_the_locale_says(
    tmp_path: Path, language: str, encoding: str, printed: str
) -> None:
    name = f"{language}.{encoding}"
    command = ["localedef", "-i", language, "-f", encoding, "--no-archive", str(tmp_path / name)]
    if shutil.which("localedef") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"the locale {name} can't be made here")
    out = tmp_path / "りんご.png"
    locale = {"LOCPATH": str(tmp_path), "LC_ALL": name}
    done = make_bytes("image", f"PYTHON={sys.executable}", "PROMPT=赤いりんご", f"OUT={out}", "SEED=1", **locale)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout.decode(encoding)
    assert out.exists()


def test_both_networks_are_trained_and_then_exported(stub: Path) -> None:
    done = make("mini-train", f"PYTHON={stub}", "MINUTES=30", FOLDER="", CONCEPTS="")
    assert done.returncode == 0, done.stderr
    assert "First the base model for 30 min, then the upsampler for 11;" in done.stdout
    trained = (stub.parent / "trained").read_text(encoding="utf-8")
    assert trained == "train base\ntrain upsampler\nexport --folder=out/mini\n"


def test_training_that_is_stopped_goes_on_to_nothing_else(stub: Path) -> None:
    (stub.parent / "training_stops").touch()
    assert make("mini-train", f"PYTHON={stub}").returncode == 2
    assert (stub.parent / "trained").read_text(encoding="utf-8") == "train base\n"


@pytest.mark.parametrize("minutes", ["0", "-1", "1.5", "1h", "08", "1000000", "9" * 20])
def test_minutes_that_are_none_are_told_before_anything_is_trained(stub: Path, minutes: str) -> None:
    done = make("mini-train", f"PYTHON={stub}", f"MINUTES={minutes}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"MINUTES is {minutes}: must be a whole number from 1 to 999999"
    assert not (stub.parent / "trained").exists()
