"""Make the mini model: `python -m backend_gpu.mini.training train base`, then `export`, `evaluate`, `grid`."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from backend_gpu.glide.tokenizer import WordTokenizer
from backend_gpu.glide.unet import UNet
from backend_gpu.mini.model import WEIGHTS
from backend_gpu.mini.training import train
from backend_gpu.mini.vocabulary import load_vocabulary


def main() -> None:
    """Parse the command line and run one step of making the model."""
    parser = argparse.ArgumentParser(prog="backend_gpu.mini.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train", help="train one network, or go on with it")
    command.add_argument("network", choices=("base", "upsampler"))
    command.add_argument("--folder", type=Path, default=Path("out/mini"), help="where the checkpoints lie")
    command.add_argument("--minutes", type=float, help="length of the whole run; also sets the learning rate's fall")
    command.add_argument("--concepts", type=int, default=100, help="how many rows of concepts.tsv to learn")
    command.add_argument("--threads", type=int, default=2)
    command.set_defaults(run=start_training)
    command = commands.add_parser("export", help="write the trained networks as the weights that the model opens")
    command.add_argument("--folder", type=Path, default=Path("out/mini"), help="where the checkpoints lie")
    command.add_argument("--weights", type=Path, default=WEIGHTS, help="where the weights go")
    command.add_argument("--concepts", type=int, default=100, help="how many rows of concepts.tsv were learned")
    command.set_defaults(run=export_weights)
    options = parser.parse_args()
    options.run(options)


def start_training(options: argparse.Namespace) -> None:
    """Train the base model or the upsampler until its plan's minutes are over."""
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    whole = load_vocabulary()
    vocabulary = replace(whole, concepts=whole.concepts[: options.concepts])
    words = vocabulary.words()
    tokenizer = WordTokenizer(words, train.TEXT_CONTEXT)
    is_base = options.network == "base"
    plan = train.BASE_PLAN if is_base else train.UPSAMPLER_PLAN
    if options.minutes:
        plan = replace(plan, minutes=options.minutes)
    torch.manual_seed(plan.seed)
    network = UNet(train.base_config(len(words)) if is_base else train.UPSAMPLER_CONFIG).to(device)
    options.folder.mkdir(parents=True, exist_ok=True)
    training = train.Training(network, plan, options.folder / f"{options.network}.pt", words)
    batches = train.Batches(vocabulary, tokenizer, plan, seed=plan.seed + training.steps)
    train.train_until_done(training, batches, device)


def export_weights(options: argparse.Namespace) -> None:
    """Turn the checkpoints of both networks into weights."""
    vocabulary = load_vocabulary()
    concepts = [concept.english for concept in vocabulary.concepts[: options.concepts]]
    for network in ("base", "upsampler"):
        checkpoint, weights = options.folder / f"{network}.pt", options.weights / f"{network}.safetensors"
        words = torch.load(checkpoint, weights_only=True)["words"]
        config = train.base_config(len(words)) if network == "base" else train.UPSAMPLER_CONFIG
        train.export(checkpoint, weights, config, concepts)
        print(f"{weights}: {weights.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
