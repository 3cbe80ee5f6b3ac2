"""`make image` without the Makefile: the translator's JSON goes in, PNG files come out."""

import json
import os
import pwd
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from backend_gpu.errors import InvalidRequest
from backend_gpu.files import write_file
from backend_gpu.image_command import output_paths

ROOT = Path(__file__).resolve().parents[2]
APPLE = {
    "source": "青い背景に赤いりんご",
    "english": "a red apple on a blue background",
    "translator": "offline",
    "unknown_words": [],
}


def run_image(
    translation: object, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command with that JSON (or text) on its standard input, which it reads as UTF-8 whatever the locale."""
    text = translation if isinstance(translation, str) else json.dumps(translation, ensure_ascii=False)
    return subprocess.run(
        [sys.executable, "-m", "backend_gpu", "image", *arguments],
        input=text,
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env=os.environ | (environment or {}),
        check=False,
        timeout=120,
    )


def assert_refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.fixture(scope="module")
def apple(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("apple") / "apple.png"
    result = run_image(APPLE, f"--out={out}", "--seed=1")
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def test_a_translation_becomes_a_256_pixel_png(apple: tuple[Path, str]) -> None:
    with Image.open(apple[0]) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (256, 256), "RGB")


def test_the_picture_is_a_red_thing_on_blue(apple: tuple[Path, str]) -> None:
    with Image.open(apple[0]) as image:
        middle, corner = image.getpixel((128, 150)), image.getpixel((8, 8))
    assert isinstance(middle, tuple)
    assert isinstance(corner, tuple)
    assert middle[0] > middle[2] + 40
    assert corner[2] > corner[0] + 40


def test_the_picture_tells_how_to_make_it_again(apple: tuple[Path, str]) -> None:
    with Image.open(apple[0]) as image:
        texts = image.text  # type: ignore[attr-defined]  # a PNG has it
    lines = texts["parameters"].split("\n")
    assert lines[0] == "a red apple on a blue background"
    assert lines[-1].startswith("Steps: ")
    for part in ("Sampler: DPM++ 2M", "CFG scale: ", "Seed: 1", "Size: 256x256", "Model: kotoe-mini"):
        assert part in lines[-1]
    record = json.loads(texts["kotoe"])
    assert record["source_prompt"] == "青い背景に赤いりんご"
    assert record["translator"] == "offline"
    assert record["seed"] == 1
    assert len(record["model_hash"]) == 64


def test_the_command_tells_the_english_and_the_time_of_each_stage(apple: tuple[Path, str]) -> None:
    assert "a red apple on a blue background" in apple[1]
    for stage in ("load", "base", "upsample", "write"):
        assert f"{stage} " in apple[1].splitlines()[-1]


def test_the_same_seed_gives_the_same_pixels_alone_and_in_a_batch(apple: tuple[Path, str], tmp_path: Path) -> None:
    result = run_image(APPLE, f"--out={tmp_path / 'two.png'}", "--seed=0", "--n=2")
    assert result.returncode == 0, result.stderr
    with Image.open(apple[0]) as alone, Image.open(tmp_path / "two-2.png") as together:
        difference = max(abs(a - b) for a, b in zip(alone.tobytes(), together.tobytes(), strict=True))
    assert difference <= 2  # rounding: matrix products of other sizes


@pytest.mark.parametrize("seed", ["-1", "4294967296", "abc", "1.5", "", "１"])
def test_a_bad_seed_is_one_clear_line(seed: str, tmp_path: Path) -> None:
    assert_refused(run_image(APPLE, f"--out={tmp_path / 'a.png'}", f"--seed={seed}"), "seed", "4294967295")


@pytest.mark.parametrize("count", ["0", "9", "two"])
def test_a_bad_number_of_pictures_is_one_clear_line(count: str, tmp_path: Path) -> None:
    assert_refused(run_image(APPLE, f"--out={tmp_path / 'a.png'}", f"--n={count}"), "1 to 8")


def test_an_unknown_model_is_one_clear_line(tmp_path: Path) -> None:
    assert_refused(run_image(APPLE, f"--out={tmp_path / 'a.png'}", "--model=big"), "'big'", "mini or glide")


@pytest.mark.parametrize("name", ["BACKEND_MODEL", "BACKEND_DEVICE"])
def test_a_bad_setting_is_one_clear_line(name: str, tmp_path: Path) -> None:
    assert_refused(run_image(APPLE, f"--out={tmp_path / 'a.png'}", environment={name: "nonsense"}), name)


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    assert_refused(run_image(APPLE, f"--out={tmp_path / 'none' / 'a.png'}"), "does not exist")


def test_a_folder_as_output_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    assert_refused(run_image(APPLE, f"--out={tmp_path / 'a.png'}"), "is a folder")


def test_a_folder_that_cannot_be_written_is_one_clear_line() -> None:
    assert_refused(run_image(APPLE, "--out=/proc/a.png"), "can't write to the folder")


LONGEST = os.pathconf(ROOT, "PC_NAME_MAX")  # bytes


@pytest.mark.parametrize("length", [218, LONGEST])
def test_the_longest_names_that_the_file_system_takes_are_written(tmp_path: Path, length: int) -> None:
    out = tmp_path / f"{'x' * (length - 4)}.png"
    assert output_paths(out, 1) == [out]
    write_file(out, b"png")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_japanese_name_of_255_bytes_is_drawn_into(tmp_path: Path) -> None:
    stem = "り" * ((LONGEST - 4) // 3)
    out = tmp_path / f"{stem}{'x' * (LONGEST - 4 - 3 * len(stem))}.png"
    result = run_image(APPLE, f"--out={out}", "--seed=1")
    assert result.returncode == 0, result.stderr
    with Image.open(out) as image:
        assert image.size == (256, 256)


@pytest.mark.parametrize(
    ("stem", "count", "message"),
    [
        ("x" * (LONGEST - 3), 1, f"has {LONGEST + 1} bytes, at most {LONGEST}"),
        ("x" * (LONGEST - 5), 2, f"has {LONGEST + 1} bytes, at most {LONGEST}"),
        ("り" * 84, 1, f"has 256 bytes, at most {LONGEST}"),
        ("x" * 5000, 1, f"has 5004 bytes, at most {LONGEST}"),
        ("a\0b", 1, "embedded null byte"),
    ],
)
def test_names_that_the_file_system_does_not_take_are_refused_before_drawing(
    tmp_path: Path, stem: str, count: int, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        output_paths(tmp_path / f"{stem}.png", count)


def test_a_path_that_is_too_long_is_one_clear_line(tmp_path: Path) -> None:
    folder = tmp_path / "/".join(["d" * 200] * 25)
    assert_refused(run_image(APPLE, f"--out={folder / 'a.png'}"), "can't write", "File name too long")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("", "does not end in .png"),
        ("pictures/", "does not end in .png"),
        ("png", "does not end in .png"),
        (".png", ".png has no name before .png"),
        (".PNG", ".PNG has no name before .png"),
        ("pictures/.png", "pictures/.png has no name before .png"),
    ],
)
def test_a_name_that_is_empty_is_one_clear_line(out: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        output_paths(Path(out), 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to all files")
def test_a_read_only_file_is_refused_before_drawing(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch(0o444)
    with pytest.raises(InvalidRequest, match="read-only"):
        output_paths(tmp_path / "a.png", 1)


def test_home_folders_are_meant_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    user = pwd.getpwuid(os.getuid())
    assert output_paths(Path("~/a.png"), 2) == [tmp_path / "a-1.png", tmp_path / "a-2.png"]
    assert output_paths(Path(f"~{user.pw_name}/a.png"), 1) == [Path(user.pw_dir) / "a.png"]
    with pytest.raises(InvalidRequest, match="there is no home folder ~nobody-of-that-name"):
        output_paths(Path("~nobody-of-that-name/a.png"), 1)


def test_another_format_is_one_clear_line(tmp_path: Path) -> None:
    assert_refused(run_image(APPLE, f"--out={tmp_path / 'a.jpg'}"), ".png")


HALF = json.dumps(APPLE | {"source": "\ud800"})


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"source": "a"}', "null", HALF])
def test_something_other_than_a_translation_is_one_clear_line(text: str, tmp_path: Path) -> None:
    assert_refused(run_image(text, f"--out={tmp_path / 'a.png'}"), "not a translation")


def test_an_empty_prompt_is_one_clear_line(tmp_path: Path) -> None:
    assert_refused(run_image(APPLE | {"source": " \n"}, f"--out={tmp_path / 'a.png'}"), "empty")


def test_ten_thousand_characters_are_one_clear_line(tmp_path: Path) -> None:
    long = APPLE | {"source": "猫" * 10_000}
    assert_refused(run_image(long, f"--out={tmp_path / 'a.png'}"), "10000", "1000")


def test_only_unknown_words_are_one_clear_line(tmp_path: Path) -> None:
    nothing = APPLE | {"source": "量子力学", "english": "", "unknown_words": ["量子力学"]}
    assert_refused(run_image(nothing, f"--out={tmp_path / 'a.png'}"), "量子力学")


def test_words_that_were_probably_meant_are_told_though_nothing_can_be_drawn(tmp_path: Path) -> None:
    nothing = APPLE | {"source": "ペンギソ", "english": "", "unknown_words": ["ペンギソ"]}
    result = run_image(nothing | {"suggestions": {"ペンギソ": "ペンギン"}}, f"--out={tmp_path / 'a.png'}")
    assert_refused(result, "ペンギン for ペンギソ")


def test_what_is_left_out_meant_or_not_drawn_has_a_line_each(tmp_path: Path) -> None:
    translation = {
        "source": "赤い自転車とペンギソ",
        "english": "a red bicycle",
        "translator": "offline",
        "unknown_words": ["ペンギソ"],
        "not_drawn": ["赤い"],
        "suggestions": {"ペンギソ": "ペンギン"},
    }
    result = run_image(translation, f"--out={tmp_path / 'a.png'}")
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if "ペンギ" in line or "赤い" in line] == [
        "not understood and left out: ペンギソ",
        "perhaps you meant: ペンギン for ペンギソ",
        "beyond what the model mini can draw: 赤い",
    ]


def test_english_that_the_model_was_not_trained_on_is_told(tmp_path: Path) -> None:
    strange = APPLE | {"source": "a skyscraper", "english": "a skyscraper"}
    assert_refused_last_line(run_image(strange, f"--out={tmp_path / 'a.png'}"), "skyscraper")


def test_more_tokens_than_the_model_reads_are_told_with_both_numbers(tmp_path: Path) -> None:
    long = "an apple and " * 10 + "a cat"
    result = run_image(APPLE | {"source": long, "english": long}, f"--out={tmp_path / 'a.png'}")
    assert_refused_last_line(result, "32 tokens", "at most 24")


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "latin-1"},
        pytest.param({"PYTHONIOENCODING": "utf-16"}, marks=pytest.mark.crash),
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, marks=pytest.mark.crash),
    ],
)
def test_the_translation_is_read_whatever_the_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    translation = json.dumps(APPLE | {"unknown_words": ["侍"]}, ensure_ascii=False).encode()
    done = subprocess.run(
        [sys.executable, "-m", "backend_gpu", "image", f"--out={tmp_path / 'りんご.png'}"],
        input=translation,
        capture_output=True,
        cwd=ROOT,
        env=os.environ | locale,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    encoding = "utf-16" if "utf-16" in locale.values() else "ascii"
    message = done.stdout.decode(encoding)
    assert ("'青い背景に赤いりんご' →" if encoding == "utf-16" else r"'\u9752\u3044\u80cc\u666f\u306b") in message
    assert ("侍" if encoding == "utf-16" else r"left out: \u4f8d") in done.stderr.decode(encoding)
    with PngImageFile(tmp_path / "りんご.png") as image:
        assert json.loads(image.text["kotoe"])["source_prompt"] == APPLE["source"]


@pytest.mark.parametrize(
    "closed",
    [
        "2>&1 | true",
        *(pytest.param(way, marks=pytest.mark.crash) for way in (">&-", "2>&-", "| true", ">/dev/full 2>&1")),
    ],
)
def test_streams_that_nobody_reads_keep_no_picture_from_being_drawn(tmp_path: Path, closed: str) -> None:
    command = shlex.join([sys.executable, "-m", "backend_gpu", "image", f"--out={tmp_path / 'a.png'}"])
    line = f'{{ {command}; echo $? > "{tmp_path}/code"; }} {closed}'
    subprocess.run(["sh", "-c", line], input=json.dumps(APPLE).encode(), cwd=ROOT, check=False, timeout=120)
    assert (tmp_path / "code").read_text(encoding="ascii") == "0\n"
    assert (tmp_path / "a.png").exists()


def test_a_closed_standard_input_is_one_clear_line(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "backend_gpu", "image", f"--out={tmp_path / 'a.png'}"])
    done = subprocess.run(
        ["sh", "-c", f"{command} <&-"], capture_output=True, encoding="utf-8", cwd=ROOT, check=False, timeout=120
    )
    assert_refused(done, "not a translation")


def assert_refused_last_line(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr.strip().splitlines()[-1]
