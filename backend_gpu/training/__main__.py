"""Make a mini model: train both networks, export them as a folder that the service opens, evaluate it, draw with it.

The table of concepts is a TSV like the embedded one: an emoji or the path of a picture beside the table, the English
name and its plural, the colour it has of itself, "yes" if it may have any other, and its Japanese names.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import get_args

from backend_gpu.settings import expanded, let_waiting_threads_sleep

if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while torch is imported, some seconds, is no traceback
    let_waiting_threads_sleep()  # training shares the cores with those that render for it

from backend_gpu.errors import BackendError
from backend_gpu.glide.config import SamplerName
from backend_gpu.glide.pipeline import Sampling
from backend_gpu.mini.metadata import GUIDANCE_SCALE, STEPS, UPSAMPLE_STEPS, WEIGHTS
from backend_gpu.mini.vocabulary import CONCEPTS
from backend_gpu.streams import open_streams
from backend_gpu.training import judging, making

STUDY = Path(__file__).parents[2] / "docs" / "samplers.md"


def command_line() -> argparse.ArgumentParser:
    """A parser with a command for each step of making a model."""
    parser = argparse.ArgumentParser(
        prog="backend_gpu.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train", help="train one network, or go on with it: the base model first")
    command.add_argument("network", choices=("base", "upsampler"))
    add_table_options(command)
    command.add_argument("--minutes", type=float, help="length of the whole run; also sets the learning rate's fall")
    command.add_argument(
        "--start-from", type=Path, help="the folder of an earlier model's weights, to learn from there"
    )
    command.add_argument("--batch-size", type=int, help="pictures in a step: by the kind of device if not given")
    command.set_defaults(run=making.start_training)
    command = commands.add_parser("export", help="write the trained networks as a model that service and page can use")
    add_table_options(command)
    command.add_argument(
        "--model", type=Path, help="the folder that gets weights and tables: FOLDER/model if not given"
    )
    command.set_defaults(run=making.export_weights)
    command = commands.add_parser("evaluate", help="score the weights; the figures go to FOLDER/evaluation.json")
    add_table_options(command)
    add_sampling_options(command)
    command.add_argument("--per-form", type=int, default=100, help="pictures of each form of the grammar")
    command.add_argument(
        "--card", action="store_true", help="also write them into the card, what failed beside the weights"
    )
    command.set_defaults(run=judging.evaluate_weights)
    command = commands.add_parser("grid", help="draw 64 Japanese prompts as one picture")
    add_sampling_options(command)
    command.add_argument("--out", type=Path, default=Path("out/mini/grid.jpg"), help="the picture's path")
    command.set_defaults(run=judging.draw_prompts)
    command = commands.add_parser("sheet", help="draw everything that the weights know as one picture")
    add_sampling_options(command)
    command.add_argument("--out", type=Path, default=Path("out/mini/sheet.jpg"), help="the picture's path")
    command.add_argument(
        "--sprites", action="store_true", help="also write it without names beside the weights, for pages to show"
    )
    command.set_defaults(run=judging.draw_sheet_of_things)
    command = commands.add_parser(
        "study", help="compare samplers, steps, guidance and precision; writes docs/samplers.*"
    )
    add_table_options(command)
    add_sampling_options(command)
    command.add_argument("--per-form", type=int, default=16, help="pictures of each form of the grammar")
    command.add_argument("--out", type=Path, default=STUDY, help="the document that gets the table, beside its picture")
    command.set_defaults(run=judging.study_samplers)
    command = commands.add_parser("by-eye", help="draw 100 pictures for a person to judge, with a table to fill")
    command.add_argument("--concepts", type=Path, default=CONCEPTS, help="the table of concepts")
    command.add_argument("--weights", type=Path, default=WEIGHTS, help="where the weights lie")
    command.add_argument("--steps", type=int, default=STEPS)
    command.add_argument("--upsample-steps", type=int, default=UPSAMPLE_STEPS)
    command.add_argument("--guidance", type=float, default=GUIDANCE_SCALE)
    command.add_argument("--out", type=Path, required=True, help="the folder of the sheets and the table")
    command.set_defaults(run=judging.draw_for_the_eye)
    return parser


def main() -> None:
    """Parse the command line and run one step of making a model."""
    open_streams()
    parser = command_line()
    options = parser.parse_args()
    for name, value in vars(options).items():
        if isinstance(value, Path):
            try:
                setattr(options, name, expanded(value))
            except ValueError as error:
                parser.error(f"--{name.replace('_', '-')}: {error}")
    try:
        options.run(options)
    except BackendError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def add_table_options(command: argparse.ArgumentParser) -> None:
    """The options that say what is learned and where what comes of it lies."""
    command.add_argument("--concepts", type=Path, default=CONCEPTS, help="the table of concepts")
    command.add_argument("--font", type=Path, help="file of the colour font that has its emoji: Noto's if not given")
    command.add_argument("--rows", type=int, help="how many of its rows to learn: all if not given")
    command.add_argument("--folder", type=Path, default=Path("out/mini"), help="where checkpoints and figures lie")


def add_sampling_options(command: argparse.ArgumentParser) -> None:
    """The options of every command that makes pictures; their defaults are the service's."""
    command.add_argument("--weights", type=Path, default=WEIGHTS, help="where the weights lie")
    command.add_argument("--steps", type=int, default=STEPS)
    command.add_argument("--upsample-steps", type=int, default=UPSAMPLE_STEPS)
    command.add_argument("--guidance", type=float, default=GUIDANCE_SCALE)
    command.add_argument("--sampler", choices=get_args(SamplerName), default=Sampling.sampler)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
