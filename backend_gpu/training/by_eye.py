"""A hundred pictures for a person to judge, and how far the evaluation's instruments agree with that person.

Half of each form is drawn in the default setting, half roughly, so that there is something to disagree about.
"""

import csv
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from backend_gpu.errors import BackendError
from backend_gpu.glide.config import Pixels
from backend_gpu.glide.pipeline import Pipeline, Sampling
from backend_gpu.mini.vocabulary import Vocabulary
from backend_gpu.training.evaluate import Form, Judge, Trial, Verdict, choose_trials, distances, model_painter
from backend_gpu.training.fonts import label_font
from backend_gpu.training.likeness import SIDES, renders_of

BY_EYE = Path(__file__).with_suffix(".tsv")  # what a person said
NUMBERS: Mapping[Form, int] = {
    "one": 18,
    "background": 16,
    "scene": 16,
    "count": 14,
    "pair": 16,
    "tint": 10,
    "style": 10,
}
ROUGH = Sampling(steps=4, upsample_steps=1)
EYE = ("good", "doubtful", "bad")  # what a person may say of a picture
COLUMNS = ("number", "caption", "seed", "setting", "eye", "note")
SHEET_COLUMNS, SHEET_ROWS = 5, 4
LINE_HEIGHT, GAP = 18, 8  # pixels
BATCH_SIZE = 8


@dataclass(frozen=True)
class Seen:
    """One picture to judge: what is asked for, and how it is drawn."""

    trial: Trial
    sampling: Sampling

    @property
    def row(self) -> tuple[str, ...]:
        """What the table has of it: caption, seed and the steps of both networks."""
        steps = f"{self.sampling.steps} + {self.sampling.upsample_steps}"
        return self.trial.scene.caption(), str(self.trial.seed), steps


@dataclass(frozen=True)
class Opinion:
    """What a person and the instruments said of one picture."""

    eye: str
    is_right: bool
    is_clear: bool
    likeness: tuple[float, ...]


def eye_trials(vocabulary: Vocabulary, default: Sampling) -> list[Seen]:
    """The same pictures at every call, in no order; single things of different concepts where there are enough."""
    seen: list[Seen] = []
    used: set[str] = set()
    for form, number in NUMBERS.items():
        trials = choose_trials(vocabulary, form, len(used) + 10 * number)
        new = list({trial.scene.objects[0].english: trial for trial in reversed(trials)}.values())
        fresh = [trial for trial in new if trial.scene.objects[0].english not in used]
        chosen = (fresh + trials)[:number]
        if form in ("one", "background", "scene"):
            used.update(trial.scene.objects[0].english for trial in chosen)
        seen += [Seen(trial, (default, ROUGH)[index % 2]) for index, trial in enumerate(chosen)]
    random.Random(0).shuffle(seen)
    return seen


def drawn(pipeline: Pipeline, seen: Sequence[Seen], guidance_scale: float) -> Iterator[tuple[int, Pixels, Pixels]]:
    """Each picture's place in the list and the picture at 64 and 256 px; shows its progress."""
    with tqdm(total=len(seen), desc="by eye", unit="picture") as progress:
        for sampling in dict.fromkeys(one.sampling for one in seen):
            places = [place for place, one in enumerate(seen) if one.sampling == sampling]
            paint = model_painter(pipeline, sampling, guidance_scale)
            for start in range(0, len(places), BATCH_SIZE):
                batch = places[start : start + BATCH_SIZE]
                yield from zip(batch, *paint([seen[place].trial for place in batch]), strict=True)
                progress.update(len(batch))


def write_sheets(folder: Path, seen: Sequence[Seen], pictures: Mapping[int, Pixels], weights: str) -> None:
    """Write the pictures at 256 px as numbered sheets, and the table that a person fills."""
    folder.mkdir(parents=True, exist_ok=True)
    font = label_font("sans", LINE_HEIGHT - 5)[0]
    width, height = SIDES[1] + GAP, SIDES[1] + 2 * LINE_HEIGHT + GAP
    a_sheet = SHEET_COLUMNS * SHEET_ROWS
    for first in range(0, len(seen), a_sheet):
        sheet = Image.new("RGB", (SHEET_COLUMNS * width, SHEET_ROWS * height), "white")
        draw = ImageDraw.Draw(sheet)
        for place in range(first, min(first + a_sheet, len(seen))):
            left, top = (place - first) % SHEET_COLUMNS * width, (place - first) // SHEET_COLUMNS * height
            sheet.paste(Image.fromarray(pictures[place]), (left, top))
            words = f"{place + 1} {seen[place].trial.scene.caption()}".split(" ")
            lines = [""]
            for word in words:
                if font.getlength(f"{lines[-1]} {word}") > SIDES[1]:
                    lines.append("")
                lines[-1] = f"{lines[-1]} {word}".strip()
            draw.multiline_text((left, top + SIDES[1]), "\n".join(lines[:2]), fill="black", font=font)
        sheet.save(folder / f"sheet-{first // a_sheet + 1}.png")
    with (folder / BY_EYE.name).open("w", encoding="utf-8", newline="") as file:
        file.write(f"# weights {weights}\n")
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, one in enumerate(seen, start=1):
            writer.writerow([number, *one.row, "", ""])


def read_by_eye(path: Path, weights: str) -> list[dict[str, str]]:
    """The judged rows of a filled table; none if there is no table, or if it is of other weights.

    Raises:
        BackendError: a judgement is none of the three.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        if file.readline().split()[-1] != weights:
            return []
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["eye"]]
    for row in rows:
        if row["eye"] not in EYE:
            raise BackendError(f"{path}, number {row['number']}: eye is {row['eye']!r}, must be of {', '.join(EYE)}")
    return rows


def opinions(
    pipeline: Pipeline, judge: Judge, rows: Sequence[Mapping[str, str]], guidance_scale: float
) -> list[Opinion]:
    """Draw the judged pictures again and ask the instruments.

    Raises:
        BackendError: the table has another list of pictures than this program.
    """
    default = max((sampling_of(row["setting"]) for row in rows), key=lambda sampling: sampling.steps)
    every = eye_trials(judge.vocabulary, default)
    seen = [every[int(row["number"]) - 1] for row in rows]
    for row, one in zip(rows, seen, strict=True):
        if (row["caption"], row["seed"], row["setting"]) != one.row:
            raise BackendError(f"number {row['number']} of the table judged by eye is no longer {row['caption']!r}")
    found: list[Opinion] = []
    for place, small, large in drawn(pipeline, seen, guidance_scale):
        trial = seen[place].trial
        likeness = distances(renders_of(trial.scene, judge.vocabulary), (small, large))
        verdicts: list[Verdict] = [replace(verdict, likeness=likeness) for verdict in judge.judge(trial, small)]
        is_right = all(verdict.is_right for verdict in verdicts)
        found.append(Opinion(rows[place]["eye"], is_right, verdicts[0].is_clear, likeness))
    return found


def sampling_of(setting: str) -> Sampling:
    """The sampling that a row of the table names."""
    steps, upsample_steps = map(int, setting.split(" + "))
    return Sampling(steps=steps, upsample_steps=upsample_steps)


def agreement(found: Sequence[Opinion]) -> dict[str, object]:
    """How far eye and instruments agree; "doubtful" is not good."""
    is_good = np.array([opinion.eye == "good" for opinion in found])
    right, clear = (np.array([getattr(opinion, name) for opinion in found]) for name in ("is_right", "is_clear"))
    is_measured = np.array([bool(opinion.likeness) for opinion in found])
    measured = [opinion for opinion in found if opinion.likeness]
    eye = ranks(np.array([EYE.index(opinion.eye) for opinion in measured]))
    columns = zip(*(opinion.likeness for opinion in measured), strict=True)
    is_constant = len(set(eye.tolist())) < 2
    return {
        "n": len(found),
        "table": {
            name: {
                f"{'' if is_right else 'not '}right, {'' if is_clear else 'not '}clear": sum(
                    (opinion.eye, opinion.is_right, opinion.is_clear) == (name, is_right, is_clear) for opinion in found
                )
                for is_right in (True, False)
                for is_clear in (True, False)
            }
            for name in EYE
        },
        "classifier": float((right == is_good).mean()),
        "likeness": float((clear == is_good)[is_measured].mean()),
        "both": float(((right & clear) == is_good).mean()),
        "rank_correlation": None
        if is_constant
        else [round(float(np.corrcoef(ranks(np.array(column)), eye)[0, 1]), 3) for column in columns],
    }


def ranks(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """The rank of each value, equal ones sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])
