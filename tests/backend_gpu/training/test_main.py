import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from backend_gpu.engine.mini import sprites_of
from backend_gpu.glide.config import Pixels
from backend_gpu.glide.pipeline import Pipeline
from backend_gpu.mini.metadata import experimental_phrases, trained_concepts
from backend_gpu.mini.model import open_mini
from backend_gpu.mini.vocabulary import CONCEPTS, GRAMMAR, load_vocabulary
from backend_gpu.training import __main__ as commands
from backend_gpu.training import card, classifier, evaluate, grid, judging, likeness, making, sheet, train
from backend_gpu.training.plan import TEXT_CONTEXT

ROOT = Path(__file__).parents[3]
TRAINED = [concept.english for concept in load_vocabulary().concepts[:12]]


@dataclass(frozen=True)
class Commands:
    """The command line, with batches and instruments small enough for a test."""

    patch: pytest.MonkeyPatch
    checkpoints: Path
    weights: Path

    def run(self, *arguments: object) -> None:
        self.patch.setattr(sys, "argv", ["training", *map(str, arguments)])
        commands.main()

    def train(self, network: str) -> None:
        """Take one step."""
        self.run("train", network, f"--folder={self.checkpoints}", "--rows=12", "--batch-size=2", "--minutes=1e-9")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Both networks after one step each, exported."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (judging, train):
            patch.setattr(module, "PICTURES_PER_STEP", 2)
        patch.setattr(judging, "Recipe", partial(classifier.Recipe, steps=1, batch_size=8))
        for module in (judging, classifier):
            patch.setattr(module, "CLEAN_CROPS", 20)
        patch.setattr(judging, "CALIBRATION", {64: 1, 256: 1})
        patch.setattr(likeness, "RENDERS", 2)
        patch.setattr(evaluate, "DRAWS", 500)
        folder = tmp_path_factory.mktemp("mini")
        command_line = Commands(patch, folder / "checkpoints", folder / "weights")
        command_line.train("base")
        command_line.train("upsampler")
        command_line.run(
            "export", f"--folder={command_line.checkpoints}", f"--model={command_line.weights.parent}", "--rows=12"
        )
        yield command_line


def test_training_and_export_make_a_model_that_knows_what_it_was_trained_on(made: Commands) -> None:
    pipeline = open_mini(made.weights)
    assert trained_concepts(made.weights) == TRAINED
    words = replace(load_vocabulary(), concepts=load_vocabulary().concepts[:12]).words()
    assert pipeline.tokenizer.vocab_size == len(words) + 2
    assert pipeline.tokenizer.context == TEXT_CONTEXT
    assert (pipeline.base.config.image_size, pipeline.upsampler.config.image_size) == (64, 256)


def test_what_the_translator_reads_comes_with_the_weights(made: Commands) -> None:
    for table in (CONCEPTS, GRAMMAR):
        assert (made.weights.parent / table.name).read_bytes() == table.read_bytes()


def test_a_new_export_leaves_no_sprites_of_the_model_before(made: Commands, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    for name in ("sprites.webp", "sprites.json"):
        (tmp_path / "weights" / name).touch()
    made.run("export", f"--folder={made.checkpoints}", f"--model={tmp_path}", "--rows=12")
    assert trained_concepts(tmp_path / "weights") == TRAINED
    assert sprites_of(tmp_path / "weights") is None


def test_a_fault_of_the_table_is_told_in_a_sentence(made: Commands) -> None:
    with pytest.raises(SystemExit, match=r"can't read the concepts in nowhere\.tsv"):
        made.run("train", "base", "--concepts=nowhere.tsv")


@pytest.mark.crash
def test_training_tells_what_it_begins_with_and_how_it_ended(
    made: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = replace(made, checkpoints=tmp_path)
    here.train("base")
    here.train("base")
    checkpoint = tmp_path / "base.pt"
    done = torch.load(checkpoint, weights_only=True)["minutes"]
    here.run("train", "base", f"--folder={tmp_path}", "--rows=12", "--batch-size=2", f"--minutes={done * 1.001}")
    first, slow, ended, had, went_on, _, _ = capsys.readouterr().out.splitlines()
    assert first == "base model (1 of 2): 1e-09 min in batches of 2, from nothing"
    assert slow.startswith("The first step may take minutes")
    assert ended.startswith("base model (1 of 2): done after ")
    assert ended.endswith(f" min, 2 pictures; saved in {checkpoint}")
    assert had == f"base model (1 of 2): has had its 1e-09 min ({checkpoint}); MINUTES sets more"
    plan = f"base model (1 of 2): {done * 1.001:g} min in batches of 2"
    assert went_on == f"{plan}, going on after {done:.1f} min from {checkpoint}"
    earlier = replace(made, checkpoints=tmp_path / "new")
    earlier.run(
        *("train", "base", f"--start-from={made.weights}", f"--folder={earlier.checkpoints}", "--rows=12"),
        *("--batch-size=2", "--minutes=1e-9"),
    )
    assert "starting from the weights of an earlier model" in capsys.readouterr().out


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "1e6"])
def test_no_time_to_train_is_told(made: Commands, tmp_path: Path, minutes: str) -> None:
    with pytest.raises(SystemExit, match=r"minutes is .*, must be more than 0"):
        made.run("train", "base", f"--folder={tmp_path}", "--rows=12", f"--minutes={minutes}")


def test_batches_without_a_picture_are_refused(made: Commands, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="batch-size is 0, must be at least 1"):
        made.run("train", "base", f"--folder={tmp_path}", "--rows=12", "--batch-size=0")


def test_an_upsampler_is_not_trained_before_its_base_model(made: Commands, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"base\.pt is missing: train that network first"):
        made.run("train", "upsampler", f"--folder={tmp_path}", "--rows=12", "--batch-size=2")


@pytest.mark.crash
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_training_after_the_step_and_saves(
    made: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    handler, update = signal.getsignal(number), train.Training.update

    def update_and_stop(self: train.Training, loss: torch.Tensor) -> None:
        update(self, loss)
        signal.raise_signal(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Training, "update", update_and_stop)
        with pytest.raises(SystemExit) as ended:
            made.run("train", "base", f"--folder={tmp_path}", "--rows=12", "--batch-size=2", "--minutes=600")
    assert ended.value.code == 130
    assert signal.getsignal(number) is handler
    assert torch.load(tmp_path / "base.pt", weights_only=True)["steps"] == 1
    out, err = capsys.readouterr()
    assert "stopping after this step" in err
    assert out.splitlines()[-2].startswith("base model (1 of 2): stopped after ")
    assert out.splitlines()[-1] == "the same command goes on from there"


def test_a_signal_is_answered_at_once_though_torch_is_in_the_middle_of_a_step(made: Commands, tmp_path: Path) -> None:
    step_s, sent_at, answered_at = 3.0, [], []

    def long_step(_: train.Training, _loss: torch.Tensor) -> None:
        other = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT))
        sent_at.append(time.monotonic())
        other.start()
        ctypes.CDLL(None).usleep(int(step_s * 1e6))  # as in torch, no handler of Python's is run

    def note(line: str, *_: object) -> None:
        if "stopping after this step" in line:
            answered_at.append(time.monotonic())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Training, "update", long_step)
        # A shell starts what runs in the background with this signal ignored, and then it would end no training
        patch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)
        patch.setattr(making, "write_line", note)
        with pytest.raises(SystemExit):
            made.run("train", "base", f"--folder={tmp_path}", "--rows=12", "--batch-size=2", "--minutes=600")
    assert answered_at[0] - sent_at[0] < step_s


def test_a_second_signal_ends_training_at_once() -> None:
    code = """
import signal, time
from types import SimpleNamespace
from backend_gpu.training.making import stopped_by_signals
with stopped_by_signals(SimpleNamespace(is_stopped=False)):
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    time.sleep(600)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False, timeout=300)
    assert done.returncode == 128 + signal.SIGTERM
    assert b"stopping after this step" in done.stderr


def test_ctrl_c_while_torch_is_imported_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(600)\n", encoding="utf-8"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "backend_gpu.training", "grid"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"importing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (-signal.SIGINT, b"")


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/x", "/proc", "a\0b"])
def test_a_folder_that_cant_be_written_to_is_told(made: Commands, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"can't write to the folder .*: choose another"):
        made.run("train", "base", f"--folder={tmp_path / name}", "--rows=12")


def test_the_export_tells_how_to_use_the_model(
    made: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "my model"
    made.run("export", f"--folder={made.checkpoints}", f"--model={model}", "--rows=12")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{model / 'weights' / 'base.safetensors'}: ")
    use = f"  BACKEND_MINI_DIR='{model}' FRONTEND_MINI_DIR='{model}' make"
    assert lines[-2:] == [f"{use} run", f"{use} image PROMPT='{TRAINED[0]}' OUT=picture.png"]


def test_home_folders_are_meant_as_in_a_shell(
    made: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit, match=str(tmp_path / "my.tsv")):
        made.run("train", "base", "--concepts=~/my.tsv")
    with pytest.raises(SystemExit):
        made.run("train", "base", "--start-from=~nobody-of-that-name")
    assert "--start-from: there is no home folder ~nobody-of-that-name" in capsys.readouterr().err


def test_the_evaluation_goes_into_a_file_and_the_card(made: Commands, tmp_path: Path) -> None:
    copied = Path(shutil.copy(card.CARD, tmp_path))
    made.patch.setattr(judging, "CARD", copied)
    made.run(
        "evaluate",
        f"--weights={made.weights}",
        f"--folder={tmp_path}",
        "--per-form=2",
        "--steps=1",
        "--card",
        "--upsample-steps=1",
    )
    report = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert report["command"] == (
        "python -m backend_gpu.training evaluate --per-form 2 --steps 1 --upsample-steps 1 --guidance 2.5"
        " --sampler dpmpp_2m"
    )
    assert report["weights"] == {"steps": 1, "pictures_seen": 2, "minutes": 0, "held_out": True}
    assert set(report["scores"]["forms"]) == set(evaluate.GATES)
    assert report["scores"]["forms"]["one"]["n"] == len(TRAINED) + 2 + 2  # with those on colours and in scenes
    assert report["scores"]["forms_that_pass"] == []  # after one step it draws mist
    text = copied.read_text(encoding="utf-8")
    assert "- Base model: 1 steps, 2 pictures, 0 min." in text
    assert f"`{report['command']}`, seed 7" in text
    assert "two" in experimental_phrases(made.weights)


def test_the_grid_is_drawn_into_a_picture(made: Commands, tmp_path: Path) -> None:
    prompts = grid.read_prompts()[:1]
    made.patch.setattr(grid, "read_prompts", lambda: prompts)
    made.patch.setattr(grid, "label_font", lambda *_: (ImageFont.load_default(grid.GRID.font_size), ["ja"]))
    made.run("grid", f"--weights={made.weights}", f"--out={tmp_path / 'out' / 'grid.png'}", "--steps=1")
    with Image.open(tmp_path / "out" / "grid.png") as picture:
        assert picture.size == (1078, 174)


def test_one_drawing_of_every_thing_makes_the_sheet_and_the_sprites(made: Commands, tmp_path: Path) -> None:
    drawn: list[list[str]] = []

    def draw_things(_: Pipeline, things: list[str], *__: object) -> list[Pixels]:
        drawn.append(things)
        return [np.zeros((256, 256, 3), np.uint8)] * len(things)

    made.patch.setattr(judging, "draw_things", draw_things)
    made.patch.setattr(sheet, "label_font", lambda _, size: (ImageFont.load_default(size), []))
    weights = Path(shutil.copytree(made.weights, tmp_path / "weights"))
    out = tmp_path / "out" / "sheet.png"
    made.run("sheet", f"--weights={weights}", f"--out={out}")
    assert not (weights / "sprites.webp").exists()
    made.run("sheet", f"--weights={weights}", f"--out={out}", "--sprites")
    with Image.open(out) as picture, Image.open(weights / "sprites.webp") as sprites:
        assert (picture.size, sprites.size) == ((3022, 152), (1664, 64))
    assert json.loads((weights / "sprites.json").read_text())["things"] == TRAINED
    assert drawn == [TRAINED, TRAINED]
