from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from backend_gpu.errors import BackendError
from backend_gpu.glide.pipeline import Pipeline, Sampling
from backend_gpu.mini.vocabulary import load_vocabulary
from backend_gpu.training import by_eye, evaluate
from backend_gpu.training.by_eye import (
    ROUGH,
    Opinion,
    Seen,
    agreement,
    eye_trials,
    opinions,
    read_by_eye,
    write_sheets,
)
from backend_gpu.training.evaluate import Judge

VOCABULARY = load_vocabulary()
DEFAULT = Sampling(steps=20, upsample_steps=4)


@pytest.fixture(scope="module", autouse=True)
def _fewer_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "DRAWS", 1500)
        yield


@pytest.fixture(scope="module")
def seen() -> list[Seen]:
    return eye_trials(VOCABULARY, DEFAULT)


def test_a_hundred_pictures_half_of_each_form_roughly_drawn(seen: list[Seen]) -> None:
    assert len({one.row for one in seen}) == len(seen) == 100
    rough = Counter(one.trial.form for one in seen if one.sampling == ROUGH)
    assert rough == {form: number // 2 for form, number in by_eye.NUMBERS.items()}
    assert seen == eye_trials(VOCABULARY, DEFAULT)


def test_the_single_things_are_all_different(seen: list[Seen]) -> None:
    single = [one.trial.scene.objects[0].english for one in seen if one.trial.form in ("one", "background", "scene")]
    assert len(set(single)) == len(single) == 50


def test_the_sheets_are_numbered_and_the_table_waits_to_be_filled(seen: list[Seen], tmp_path: Path) -> None:
    pictures = {place: np.full((256, 256, 3), place, np.uint8) for place in range(25)}
    write_sheets(tmp_path, seen[:25], pictures, "abc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["by_eye.tsv", "sheet-1.png", "sheet-2.png"]
    with Image.open(tmp_path / "sheet-2.png") as sheet:
        assert [sheet.getpixel((264 * place + 9, 9)) for place in range(5)] == [(n, n, n) for n in range(20, 25)]
        assert sheet.getpixel((9, 299)) == (255, 255, 255)
    table = (tmp_path / "by_eye.tsv").read_text(encoding="utf-8").splitlines()
    assert table[:2] == ["# weights abc", "number\tcaption\tseed\tsetting\teye\tnote"]
    assert table[2].split("\t") == ["1", *seen[0].row, "", ""]
    assert len(table) == 27
    assert read_by_eye(tmp_path / "by_eye.tsv", "abc") == []  # nothing is judged


def filled(path: Path, seen: list[Seen], eye: str) -> Path:
    write_sheets(path, seen[:4], dict.fromkeys(range(4), np.zeros((256, 256, 3), np.uint8)), "abc")
    table = path / "by_eye.tsv"
    table.write_text(table.read_text(encoding="utf-8").replace("\t\t\n", f"\t{eye}\tnote\n"), encoding="utf-8")
    return table


def test_a_filled_table_counts_for_the_weights_it_was_filled_for(seen: list[Seen], tmp_path: Path) -> None:
    table = filled(tmp_path, seen, "bad")
    assert [row["eye"] for row in read_by_eye(table, "abc")] == ["bad"] * 4
    assert read_by_eye(table, "abd") == []
    assert read_by_eye(tmp_path / "nowhere.tsv", "abc") == []


def test_a_misspelt_judgement_is_told(seen: list[Seen], tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="number 1: eye is 'god', must be of good, doubtful, bad"):
        read_by_eye(filled(tmp_path, seen, "god"), "abc")


def test_a_table_of_other_pictures_is_refused(seen: list[Seen], tmp_path: Path) -> None:
    rows = read_by_eye(filled(tmp_path, seen, "good"), "abc")
    judge = cast(Judge, type("Judge", (), {"vocabulary": replace(VOCABULARY, concepts=VOCABULARY.concepts[:60])}))
    with pytest.raises(BackendError, match="is no longer"):
        opinions(cast(Pipeline, None), judge, rows, 2.5)


def test_agreement_counts_what_eye_and_instruments_say_alike() -> None:
    found = [
        Opinion("good", True, True, (0.1, 0.2)),
        Opinion("good", True, False, (0.4, 0.3)),
        Opinion("doubtful", True, False, (0.5, 0.4)),
        Opinion("bad", False, False, (0.9, 0.8)),
        Opinion("bad", True, True, ()),
    ]
    result = agreement(found)
    assert (result["n"], result["classifier"], result["likeness"], result["both"]) == (5, 0.6, 0.75, 0.6)
    assert cast(dict[str, dict[str, int]], result["table"])["good"] == {
        "right, clear": 1,
        "right, not clear": 1,
        "not right, clear": 0,
        "not right, not clear": 0,
    }
    assert result["rank_correlation"] == [pytest.approx(0.949)] * 2
    assert agreement(found[:2])["rank_correlation"] is None
