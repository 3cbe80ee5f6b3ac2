"""Train the mini model's two networks on rendered scenes; stops and resumes at any time."""

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from backend_gpu.errors import BackendError, CheckpointError
from backend_gpu.files import atomically
from backend_gpu.glide.checkpoint import load_unet, write_weights
from backend_gpu.glide.config import UNetConfig
from backend_gpu.glide.metadata import read_metadata
from backend_gpu.glide.tokenizer import FIRST_WORD_ID
from backend_gpu.glide.unet import UNet
from backend_gpu.streams import write_line
from backend_gpu.training.batches import Batch, Batches
from backend_gpu.training.device import has_bfloat16, is_compiled_on
from backend_gpu.training.muon import Muon
from backend_gpu.training.plan import EARLIER_RATE, PICTURES_PER_STEP, Plan, ema_decay_at
from backend_gpu.training.progress import ProgressLine

MAX_X_START_WEIGHT = 5.0
FIRST_BATCHES = 4  # that have to be rendered before training begins
COMPILED_STEPS = 3  # the first ones of a compiled network: they take as long as the compiler does
SAVE_INTERVAL_S = 120
BEGIN_ANEW = "take another folder (FOLDER=… of make mini-train), or remove that file to begin anew"


def loss_of(network: UNet, batch: Batch, is_mixed: bool) -> Tensor:
    """The network's error; on a GPU all of this is compiled.

    Args:
        is_mixed: the network computes in bfloat16, with weights in float32.
    """
    x_t = batch.alpha_bar.sqrt() * batch.x_start + (1 - batch.alpha_bar).sqrt() * batch.eps
    inputs = x_t if batch.enlarged is None else torch.cat([x_t, batch.enlarged], dim=1)
    with torch.autocast(x_t.device.type, torch.bfloat16, is_mixed):
        text = network.encode_text(batch.tokens, batch.mask)
        output = network(inputs.contiguous(memory_format=torch.channels_last), batch.t, text)
    return x_start_loss(output, batch.x_start, batch.alpha_bar)


def x_start_loss(output: Tensor, x_start: Tensor, alpha_bar: Tensor) -> Tensor:
    """Squared error of x_start, weighted 1 / (1 - alpha_bar) (the flat loss on v), at most MAX_X_START_WEIGHT."""
    weight = (1 / (1 - alpha_bar)).clamp(max=MAX_X_START_WEIGHT)
    return (weight * (output[:, :3] - x_start).square()).mean()


def optimizers(network: UNet, plan: Plan, share: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices and convolutions inside, AdamW for embeddings, gains, biases and the last layer.

    Args:
        share: of the plan's rates.
    """
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_inner = parameter.ndim >= 2 and "_embedding" not in name and not name.startswith("out_conv")
        (inner if is_inner else outer).append(parameter)
    both: list[torch.optim.Optimizer] = [
        Muon(inner, plan.muon_rate * share),
        torch.optim.AdamW(outer, plan.adamw_rate * share, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
    ]
    for optimizer in both:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return both


def start_from(weights: Path, network: UNet, words: Sequence[str]) -> None:
    """Give a new network the exported weights of an earlier one.

    Words that the earlier one lacks stay random; positions that it lacks begin as its last one.

    Raises:
        CheckpointError: the weights are missing or broken, or of a network of another shape.
    """
    metadata = read_metadata(weights)
    config = UNetConfig.from_json(metadata["config"])
    mine = network.config.text
    assert mine is not None
    alike = config.text and replace(config.text, vocab_size=mine.vocab_size, context=mine.context)
    if replace(config, text=alike) != network.config:
        raise CheckpointError(
            f"{weights} is a network of another shape than those that are trained now, as the first three versions "
            "were: start from later weights, or leave --start-from out to train from nothing"
        )
    earlier = load_unet(weights, config, torch.float32).state_dict()
    table = network.text.token_embedding.weight.detach().clone()
    rows = {word: row for row, word in enumerate(json.loads(metadata["words"]), FIRST_WORD_ID)}
    table[:FIRST_WORD_ID] = earlier["text.token_embedding.weight"][:FIRST_WORD_ID]
    for row, word in enumerate(words, FIRST_WORD_ID):
        if word in rows:
            table[row] = earlier["text.token_embedding.weight"][rows[word]]
    earlier["text.token_embedding.weight"] = table
    for name in ("text.positional_embedding", "text.padding_embedding"):
        missing = mine.context - len(earlier[name])
        earlier[name] = torch.cat([earlier[name], earlier[name][-1:].expand(missing, -1)])
    network.load_state_dict(earlier)


class Training:
    """A network, its average, its optimisers and how far it got."""

    def __init__(
        self, network: UNet, plan: Plan, checkpoint: Path, words: list[str], earlier: Path | None = None
    ) -> None:
        """Go on from the checkpoint if there is one, else from an earlier model's exported weights if given."""
        self.network, self.plan, self.checkpoint, self.words = network, plan, checkpoint, words
        self.steps, self.pictures, self.minutes = 0, 0, 0.0
        self.before: dict[str, int] | None = None  # the steps and minutes of the earlier model, if it began as one
        self.is_stopped = False  # set it to end after the step at hand
        self.held_out = True  # whether every step so far left out what is_held_out says
        saved = read_checkpoint(checkpoint, network.config, words) if checkpoint.exists() else None
        if earlier and not saved:
            start_from(earlier, network, words)
            metadata = read_metadata(earlier)
            self.before = {name: int(metadata[name]) for name in ("steps", "minutes")}
            self.held_out = json.loads(metadata["held_out"])
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizers = optimizers(network, plan, EARLIER_RATE if self.before else 1.0)
        if saved:
            network.load_state_dict(saved["network"])
            self.average.load_state_dict(saved["average"])
            for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state)
            self.steps, self.pictures, self.minutes = saved["steps"], saved["pictures"], saved["minutes"]
            self.held_out, self.before = saved["held_out"], saved["before"]

    @property
    def done(self) -> float:
        """The share of the plan that is over, 0 to 1."""
        return min(1.0, self.minutes / self.plan.minutes)

    @property
    def lesson(self) -> float:
        """The share of a plan whose pictures it is to see; what has learned before would forget what it doesn't see."""
        return self.done if self.plan.has_lessons and self.before is None else 1.0

    def update(self, loss: Tensor) -> None:
        """One step of the optimisers and of the average."""
        rate = self.plan.rate_at(self.done, self.steps)
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0, foreach=True)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * rate
            optimizer.step()
        self.steps += 1
        self.pictures += self.plan.batch_size
        decay = ema_decay_at(self.done, self.steps)
        follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch has no types for it
        follow(list(self.average.parameters()), list(self.network.parameters()), None)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "config": self.network.config.to_json(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "steps": self.steps,
            "pictures": self.pictures,
            "minutes": self.minutes,
            "words": self.words,
            "held_out": self.held_out,
            "before": self.before,
        }
        with atomically(self.checkpoint, self.checkpoint.with_suffix(".new")) as new:
            torch.save(state, new)


def read_checkpoint(path: Path, config: UNetConfig | None = None, words: Sequence[str] | None = None) -> dict[str, Any]:
    """What `Training.save` wrote, on the CPU.

    Raises:
        CheckpointError: there is none, or not of that shape or those words.
    """
    if not path.exists():
        raise CheckpointError(f"{path} is missing: train that network first")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if words is not None and state["words"] != words:
        raise CheckpointError(f"{path} was trained on other words than the concept table has now: {BEGIN_ANEW}")
    if "config" not in state or (config is not None and state["config"] != config.to_json()):
        raise CheckpointError(f"{path} is a network of another shape than those that are trained now: {BEGIN_ANEW}")
    return state


def trained_base(checkpoint: Path, config: UNetConfig, words: Sequence[str]) -> UNet:
    """The averaged base model of a checkpoint, for the upsampler's pictures."""
    base = UNet(config)
    base.load_state_dict(read_checkpoint(checkpoint, config, words)["average"])
    return base.eval().requires_grad_(False)


def train_until_done(training: Training, batches: Batches) -> None:
    """Run the plan to its end, or until `training.is_stopped`; prints how far it is, and saves every two minutes.

    Raises:
        BackendError: a renderer has failed; what was learned until then is saved.
    """
    plan = training.plan
    batches.ring.fill(FIRST_BATCHES * plan.batch_size, training.lesson)
    try:
        progress = run_plan(training, batches)
    except BackendError as error:
        training.save()
        raise BackendError(f"{error}\nThe same command goes on after {training.minutes:.1f} min") from error
    training.save()
    ended = "stopped" if training.minutes < plan.minutes else "done"
    seen = f"{training.minutes:.1f} min, {training.pictures:,} pictures"
    progress.end(f"{plan.title}: {ended} after {seen}; saved in {training.checkpoint}")


def run_plan(training: Training, batches: Batches) -> ProgressLine:
    """Step after step until the time is over; the clock starts when the network is compiled."""
    plan, ticked_at = training.plan, time.monotonic()
    error = loss_of
    if is_compiled_on(batches.ring.device):
        error = torch.compile(loss_of, dynamic=False)
        write_line("Compiling the network, which may take two minutes; they don't count.")
        losses = [train_step(training, batches, error) for _ in range(COMPILED_STEPS)]
        losses[-1].item()  # waits for the GPU
        began_at, ticked_at = ticked_at, time.monotonic()
        write_line(f"Compiled in {ticked_at - began_at:.0f} s.")
    else:
        write_line("The first step may take minutes on a slow machine; the time that is left is printed after it.")
    saved_at = ticked_at
    progress = ProgressLine(plan.title, plan.minutes, training.pictures, ticked_at)
    while training.minutes < plan.minutes and not training.is_stopped:
        loss = train_step(training, batches, error)
        now = time.monotonic()  # a GPU may be some steps behind
        training.minutes += (now - ticked_at) / 60
        ticked_at = now
        progress.step(training.minutes, training.pictures, loss, now)
        if now - saved_at > SAVE_INTERVAL_S:
            training.save()
            saved_at = now
    return progress


def train_step(training: Training, batches: Batches, error: Callable[[UNet, Batch, bool], Tensor]) -> Tensor:
    """Learn from one batch; returns its loss, which a GPU may not have computed yet."""
    batches.ring.refill(training.lesson)
    batch = batches.draw(training.plan.batch_size, training.plan.bias_at(training.done))
    loss = error(training.network, batch, has_bfloat16(batches.ring.device))
    training.update(loss)
    return loss.detach()


def begun(training: Training) -> str:
    """What is trained and for how long, and what it begins with."""
    plan = training.plan
    if training.minutes >= plan.minutes:
        return f"{plan.title}: has had its {plan.minutes:g} min ({training.checkpoint}); MINUTES sets more"
    run = f"{plan.title}: {plan.minutes:g} min in batches of {plan.batch_size}"
    if training.steps:
        return f"{run}, going on after {training.minutes:.1f} min from {training.checkpoint}"
    return f"{run}, starting from the weights of an earlier model" if training.before else f"{run}, from nothing"


def export(checkpoint: Path, weights: Path, concepts: list[str]) -> None:
    """Write the averaged network of a checkpoint in half precision, with all that is needed to open it.

    Raises:
        CheckpointError: there is no checkpoint, or the weights can't be written.
    """
    state = read_checkpoint(checkpoint)
    before = state["before"] or {"steps": 0, "minutes": 0}
    metadata = {
        "config": state["config"],
        "words": json.dumps(state["words"]),
        "concepts": json.dumps(concepts),
        "steps": str(before["steps"] + state["pictures"] // PICTURES_PER_STEP),
        "minutes": f"{before['minutes'] + state['minutes']:.0f}",
        "held_out": json.dumps(state["held_out"]),
    }
    weights.parent.mkdir(parents=True, exist_ok=True)
    with atomically(weights) as new:
        write_weights(new, state["average"], metadata)
