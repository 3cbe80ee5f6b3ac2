import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

import numpy as np
import pytest

from backend_gpu.errors import BackendError
from backend_gpu.glide.tokenizer import FIRST_WORD_ID
from backend_gpu.mini.vocabulary import Vocabulary, load_vocabulary, with_article
from backend_gpu.training import renderers
from backend_gpu.training.renderers import Feed, Renderers, fill
from backend_gpu.training.scenes import HELD_OUT_ONE_IN, resized_glyph
from tests.backend_gpu.training.rendered import VOCABULARY
from tests.backend_gpu.waiting import wait_until

ROOT = Path(__file__).parents[3]
FEED = Feed(vocabulary=VOCABULARY, side=8, rows=2)


def captions(number: int, done: float, vocabulary: Vocabulary = VOCABULARY) -> list[str]:
    """What the captions of that many pictures say."""
    pictures, words = np.empty((number, 8, 8, 3), np.uint8), vocabulary.words()
    tokens, masks = fill(pictures, vocabulary, done, random.Random(0))
    said = [[words[word - FIRST_WORD_ID] for word in ids[mask]] for ids, mask in zip(tokens, masks, strict=True)]
    return [" ".join(caption).replace(" ,", ",") for caption in said]


def is_running(process: int) -> bool:
    """Whether there is such a process that has not ended (ended ones may wait for somebody to ask for them)."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_no_caption_in_training_is_one_that_the_evaluation_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = {with_article(concept.english) for concept in VOCABULARY.concepts}

    def kept(said: list[str]) -> set[str]:
        return {text for text in said if zlib.crc32(text.encode()) % HELD_OUT_ONE_IN == 0} - bare

    assert kept(captions(600, done=1.0)) == set()
    monkeypatch.setattr(renderers, "is_held_out", lambda _: False)
    assert kept(captions(600, done=1.0))  # without the rule there would be some


def test_training_begins_with_the_first_concepts_and_no_pairs() -> None:
    vocabulary = replace(VOCABULARY, concepts=load_vocabulary().concepts[:90])
    first_words = set(replace(vocabulary, concepts=vocabulary.concepts[:64]).words())
    early, late = (set(" ".join(captions(300, done, vocabulary)).replace(",", "").split()) for done in (0.0, 1.0))
    assert early <= first_words
    assert len(late - first_words) > 10
    assert "above" not in early
    assert "above" in late


def test_large_glyphs_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    captions(20, done=0.0)
    assert resized_glyph.cache_info().currsize > 0
    monkeypatch.setattr(renderers, "GLYPH_BYTES", 100)
    captions(20, done=0.0)
    assert resized_glyph.cache_info().currsize == 0


def test_renderers_draw_pictures_until_the_block_ends() -> None:
    with Renderers(FEED, "seed") as rendering:
        slots = 0
        while slots < 3 * renderers.SLOTS * rendering.number:  # each slot is used again
            for pictures, tokens, masks in rendering.filled(1.0, waits=True):
                assert pictures.shape == (2, 8, 8, 3)
                assert pictures.any()
                assert masks.any(1).all()
                assert tokens.dtype == np.int64
                assert masks.dtype == np.bool_
                assert tokens.shape == masks.shape
                slots += 1
        processes = [renderer.process.pid for renderer in rendering._renderers.values()]
        assert all(is_running(process) for process in processes if process)
        list(rendering.filled(1.0))  # does not wait, whatever there is
    assert not any(is_running(process) for process in processes if process)


def test_the_error_of_a_renderer_ends_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    concepts = tuple(replace(concept, glyph=str(tmp_path / "gone.png")) for concept in VOCABULARY.concepts[:1])
    feed = replace(FEED, vocabulary=replace(VOCABULARY, concepts=concepts))
    with Renderers(feed, "seed") as rendering, pytest.raises(BackendError, match=r"rendering failed: .*gone\.png"):
        list(rendering.filled(0.0, waits=True))
    assert "Traceback" in capfd.readouterr().err


def test_a_renderer_that_is_killed_ends_training_and_is_not_waited_for() -> None:
    with Renderers(FEED, "seed") as rendering:
        list(rendering.filled(0.0, waits=True))
        process = next(iter(rendering._renderers.values())).process
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match=r"renderer 1 of .* ended with signal 9"):
            deque(chain.from_iterable(rendering.filled(0.0, waits=True) for _ in count()), maxlen=0)


@pytest.fixture
def trainer() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process whose renderer is at work, in a group of its own, and that renderer's number."""
    code = """
import signal
from backend_gpu.training.renderers import Renderers
from tests.backend_gpu.training.test_renderers import FEED
if __name__ == "__main__":
    with Renderers(FEED, "seed") as rendering:
        list(rendering.filled(0.0, waits=True))
        signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
        print(next(iter(rendering._renderers.values())).process.pid, flush=True)
        while True:
            list(rendering.filled(0.0, waits=True))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_a_renderer_ends_with_its_trainer_though_that_is_killed(trainer: tuple[subprocess.Popen[str], int]) -> None:
    process, renderer = trainer
    assert is_running(renderer)
    process.kill()
    wait_until(lambda: not is_running(renderer))


def test_the_signals_of_a_terminal_are_the_trainers_alone(trainer: tuple[subprocess.Popen[str], int]) -> None:
    process, renderer = trainer
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "interrupted\n"
    time.sleep(0.3)
    assert is_running(renderer)


def test_renderers_import_no_torch() -> None:
    code = "import sys; import backend_gpu.training.renderers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
