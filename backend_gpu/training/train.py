"""Train the mini model's two networks on rendered scenes; stops and resumes at any time."""

import copy
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from backend_gpu.errors import CheckpointError
from backend_gpu.files import atomically
from backend_gpu.glide.checkpoint import load_unet, write_weights
from backend_gpu.glide.config import TextConfig, UNetConfig
from backend_gpu.glide.guidance import with_guidance
from backend_gpu.glide.metadata import read_metadata
from backend_gpu.glide.pipeline import denoiser, read_prompts, to_signed
from backend_gpu.glide.samplers import SamplingRun, last_sample, sample_ddim
from backend_gpu.glide.schedule import alpha_bars, steps_at
from backend_gpu.glide.tokenizer import FIRST_WORD_ID, WordTokenizer
from backend_gpu.glide.unet import UNet
from backend_gpu.mini.vocabulary import Vocabulary
from backend_gpu.streams import write_line
from backend_gpu.training.muon import Muon
from backend_gpu.training.progress import ProgressLine
from backend_gpu.training.scenes import Mix, Scene, is_held_out, random_scene, render

TEXT_CONTEXT = 24  # tokens: the longest caption of the grammar with the embedded table's concepts has 23
CAPTION_DROPOUT = 0.12  # share of empty captions, for classifier-free guidance
EMA_DECAY = 0.999
MAX_X_START_WEIGHT = 5.0
CROPS_PER_PICTURE = 4
REPAINTED = 0.7  # share of the upsampler's batches whose low_res the base model has painted again
REPAINTED_FROM = (50, 450)  # timesteps it starts from: up to there the picture stays where it was
REPAINTED_GUIDANCE = 2.5
SAVE_INTERVAL_S = 120
OTHER_WORDS = "take another folder (FOLDER=… of make mini-train), or remove that file to begin anew"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training run."""

    minutes: float  # of training in all, over all resumptions
    batch_size: int
    adamw_rate: float
    muon_rate: float
    side: int  # of the pictures (base) or of their crops (upsampler)
    timestep_bias: float  # t = 1000 u^bias: below 1 trains more on noisy pictures
    seed: int = 0


BASE_PLAN = Plan(minutes=120, batch_size=64, adamw_rate=1.2e-3, muon_rate=0.02, side=64, timestep_bias=0.6)
UPSAMPLER_PLAN = Plan(minutes=35, batch_size=32, adamw_rate=1.2e-3, muon_rate=0.02, side=128, timestep_bias=1.0)


def mix_at(done: float, has_learned: bool = False) -> Mix:
    """The forms to draw when that share of the plan is done: identity first, then more counts and positions.

    A network that has learned before is not kept from the forms it knows, which it would forget.
    """
    if done < 0.35 and not has_learned:
        return Mix(one=0.80, tinted=0.08, count=0.12, pair=0.0)
    if done < 0.60:
        return Mix(one=0.58, tinted=0.07, count=0.15, pair=0.20)
    return Mix(one=0.36, tinted=0.12, count=0.20, pair=0.32)


def concepts_at(done: float, concepts: int) -> int:
    """How many concepts to draw when that share of the plan is done: a few first, all of them after a quarter."""
    first = min(12, concepts)
    return min(concepts, first + round((concepts - first) * done / 0.25))


def base_config(words: int) -> UNetConfig:
    """The mini base model: 64x64, in patches of 4."""
    return UNetConfig(
        num_channels=64,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(8,),
        text=TextConfig(vocab_size=words + 2, context=TEXT_CONTEXT, width=128, layers=2, heads=2),
        patch_size=4,
        prediction="x_start",
    )


UPSAMPLER_CONFIG = UNetConfig(
    image_size=256,
    in_channels=6,
    num_channels=64,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(),
    text=None,
    noise_schedule="linear",
    patch_size=8,
    prediction="x_start",
)


class Batches:
    """An endless stream of rendered pictures and their captions, as tensors."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        tokenizer: WordTokenizer,
        plan: Plan,
        seed: int,
        *,
        has_learned: bool = False,
        base: UNet | None = None,
    ) -> None:
        """Seed the stream.

        Args:
            has_learned: the network did before this run, so that neither concepts nor forms come step by step.
            base: the trained base model, for an upsampler that is to see such pictures as it will get.
        """
        self.vocabulary, self.tokenizer, self.plan = vocabulary, tokenizer, plan
        self.rng = random.Random(seed)
        self.has_learned, self.base = has_learned, base

    def captioned(self, done: float) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (N, 3, side, side) in [-1, 1], tokens (N, L) and mask (N, L), with that share of the plan done."""
        shown = len(self.vocabulary.concepts) if self.has_learned else concepts_at(done, len(self.vocabulary.concepts))
        vocabulary = replace(self.vocabulary, concepts=self.vocabulary.concepts[:shown])
        mix = mix_at(done, self.has_learned)
        pictures, tokens, masks = [], [], []
        for _ in range(self.plan.batch_size):
            scene = self._scene(vocabulary, mix)
            pictures.append(render(scene, vocabulary, self.plan.side, self.rng))
            ids, mask = self.tokenizer.encode("" if self.rng.random() < CAPTION_DROPOUT else scene.caption())
            tokens.append(ids)
            masks.append(mask)
        return to_signed(np.stack(pictures)).contiguous(), torch.tensor(tokens), torch.tensor(masks)

    def crops(self) -> tuple[Tensor, Tensor]:
        """Crops (N, 3, side, side) of 256x256 pictures and their low_res (N, 3, side/4, side/4), both about [-1, 1].

        The base model's pictures are never perfect. So low_res is sometimes softened and noised, and mostly painted
        again by the base model, if there is one.
        """
        side, mix = self.plan.side, mix_at(1.0)
        scenes = [self._scene(self.vocabulary, mix) for _ in range(0, self.plan.batch_size, CROPS_PER_PICTURE)]
        whole = to_signed(np.stack([render(scene, self.vocabulary, 256, self.rng) for scene in scenes])).contiguous()
        whole_low_res = F.avg_pool2d(whole, 4)
        if self.base and self.rng.random() < REPAINTED:
            whole_low_res = self._repainted(self.base, whole_low_res, scenes)
        elif self.rng.random() < 0.5:
            softened = F.avg_pool2d(F.pad(whole_low_res, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            whole_low_res = torch.lerp(whole_low_res, softened, self.rng.random() * 0.7)
        pictures, low_res = [], []
        for row in range(self.plan.batch_size):
            top, left = (self.rng.randrange((256 - side) // 4 + 1) for _ in range(2))  # of low_res
            window = slice(top, top + side // 4), slice(left, left + side // 4)
            low_res.append(whole_low_res[row // CROPS_PER_PICTURE, :, *window])
            window = slice(4 * top, 4 * top + side), slice(4 * left, 4 * left + side)
            pictures.append(whole[row // CROPS_PER_PICTURE, :, *window])
        noise = self._noise((self.plan.batch_size, 3, side // 4, side // 4)) * self.rng.random() * 0.06
        return torch.stack(pictures), torch.stack(low_res) + noise

    def _repainted(self, base: UNet, pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """Pictures as the base model draws them, starting from noised true ones (SDEdit, Meng et al. 2021)."""
        device = base.out_conv.weight.device
        first = self.rng.uniform(*REPAINTED_FROM)
        number = 1 + int(first // 100)
        schedule = base.config.noise_schedule
        steps = steps_at(schedule, (first * (step + 1) / number for step in range(number)))
        captions = [scene.caption() for scene in scenes] + [""] * len(scenes)
        with torch.autocast(device.type, torch.bfloat16), torch.inference_mode():
            text = read_prompts(base, self.tokenizer, captions)
            alpha_bar = steps[0].alpha_bar
            x_t = math.sqrt(alpha_bar) * pictures + math.sqrt(1 - alpha_bar) * self._noise(pictures.shape)
            model = with_guidance(denoiser(base, text), torch.full((len(pictures),), REPAINTED_GUIDANCE))
            run = SamplingRun(noise=x_t.to(device), steps=steps)
            return last_sample(sample_ddim(model, run)).to(pictures.device)

    def _noise(self, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.random.default_rng(self.rng.getrandbits(32)).standard_normal(shape, np.float32))

    def _scene(self, vocabulary: Vocabulary, mix: Mix) -> Scene:
        """A scene that the evaluation does not keep for itself."""
        while is_held_out(scene := random_scene(vocabulary, mix, self.rng)):
            pass
        return scene


def x_start_loss(output: Tensor, x_start: Tensor, alpha_bar: Tensor) -> Tensor:
    """Squared error of x_start, weighted 1 / (1 - alpha_bar) (the flat loss on v), at most MAX_X_START_WEIGHT."""
    weight = (1 / (1 - alpha_bar)).clamp(max=MAX_X_START_WEIGHT)
    return (weight * (output[:, :3] - x_start).square()).mean()


def optimizers(network: UNet, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices and convolutions inside, AdamW for embeddings, gains, biases and the last layer."""
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_inner = parameter.ndim >= 2 and "_embedding" not in name and not name.startswith("out_conv")
        (inner if is_inner else outer).append(parameter)
    both: list[torch.optim.Optimizer] = [
        Muon(inner, plan.muon_rate),
        torch.optim.AdamW(outer, plan.adamw_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
    ]
    for optimizer in both:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return both


def start_from(weights: Path, network: UNet, words: Sequence[str]) -> None:
    """Give a new network the exported weights of an earlier one.

    Words that the earlier one lacks stay random; positions that it lacks begin as its last one.

    Raises:
        CheckpointError: the weights are missing or broken.
    """
    metadata = read_metadata(weights)
    earlier = load_unet(weights, UNetConfig.from_json(metadata["config"]), torch.float32).state_dict()
    if network.config.text:
        table = network.text.token_embedding.weight.detach().clone()
        rows = {word: row for row, word in enumerate(json.loads(metadata["words"]), FIRST_WORD_ID)}
        table[:FIRST_WORD_ID] = earlier["text.token_embedding.weight"][:FIRST_WORD_ID]
        for row, word in enumerate(words, FIRST_WORD_ID):
            if word in rows:
                table[row] = earlier["text.token_embedding.weight"][rows[word]]
        earlier["text.token_embedding.weight"] = table
        for name in ("text.positional_embedding", "text.padding_embedding"):
            missing = network.config.text.context - len(earlier[name])
            earlier[name] = torch.cat([earlier[name], earlier[name][-1:].expand(missing, -1)])
    network.load_state_dict(earlier)


class Training:
    """A network, its average, its optimisers and how far it got."""

    def __init__(
        self, network: UNet, plan: Plan, checkpoint: Path, words: list[str], earlier: Path | None = None
    ) -> None:
        """Go on from the checkpoint if there is one, else from an earlier model's exported weights if given."""
        self.network, self.plan, self.checkpoint, self.words = network, plan, checkpoint, words
        self.steps, self.minutes = 0, 0.0
        self.before = {"steps": 0, "minutes": 0}  # what the earlier model's training took
        self.is_stopped = False  # set it to end after the step at hand
        self.held_out = True  # whether every step so far left out what is_held_out says
        if earlier and not checkpoint.exists():
            start_from(earlier, network, words)
            metadata = read_metadata(earlier)
            self.before = {name: int(metadata[name]) for name in self.before}
            self.held_out = json.loads(metadata["held_out"])
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizers = optimizers(network, plan)
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True)
            if state["words"] != words:
                raise CheckpointError(
                    f"{checkpoint} was trained on other words than the concept table has now: {OTHER_WORDS}"
                )
            network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.steps, self.minutes = state["steps"], state["minutes"]
            self.held_out = state["held_out"]
            self.before = state["before"]

    def update(self, loss: Tensor) -> None:
        """One step of the optimiser and of the average; the learning rate rises, stays, and falls in the last 45%."""
        done = self.minutes / self.plan.minutes
        rate = min(1.0, (self.steps + 1) / 200) * min(1.0, max(0.02, (1 - done) / 0.45))
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0, foreach=True)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * rate
            optimizer.step()
        self.steps += 1
        decay = min(EMA_DECAY, self.steps / (self.steps + 10))
        follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch has no types for it
        follow(list(self.average.parameters()), list(self.network.parameters()), None)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "steps": self.steps,
            "minutes": self.minutes,
            "words": self.words,
            "held_out": self.held_out,
            "before": self.before,
        }
        with atomically(self.checkpoint, self.checkpoint.with_suffix(".new")) as new:
            torch.save(state, new)


def trained_base(checkpoint: Path, words: Sequence[str]) -> UNet:
    """The averaged base model of a checkpoint, for the upsampler's pictures."""
    if not checkpoint.exists():
        raise CheckpointError(
            f"{checkpoint} is missing: the upsampler learns from the base model's pictures, train that first"
        )
    state = torch.load(checkpoint, weights_only=True)
    if state["words"] != words:
        raise CheckpointError(f"{checkpoint} was trained on other words than the concept table has now: {OTHER_WORDS}")
    base = UNet(base_config(len(words)))
    base.load_state_dict(state["average"])
    return base.eval().requires_grad_(False)


def draw_timesteps(plan: Plan, generator: torch.Generator) -> Tensor:
    """Timesteps (N,) 0-999, one from each of N equal shares of the distribution, shuffled."""
    shares = (torch.arange(plan.batch_size) + torch.rand(plan.batch_size, generator=generator)) / plan.batch_size
    t = (1000 * shares**plan.timestep_bias).long().clamp(max=999)
    return t[torch.randperm(plan.batch_size, generator=generator)]


def train_until_done(training: Training, batches: Batches, device: torch.device) -> None:
    """Run the plan to its end, or until `training.is_stopped`; prints how far it is, and saves every two minutes."""
    plan, config = training.plan, training.network.config
    table = torch.tensor(alpha_bars(config.noise_schedule))
    generator = torch.Generator().manual_seed(plan.seed + training.steps)
    saved_at = ticked_at = time.monotonic()
    progress = ProgressLine("base model (1 of 2)" if config.text else "upsampler (2 of 2)", plan.minutes, ticked_at)
    write_line(begun(progress.name, training))
    if training.minutes >= plan.minutes:
        return
    write_line("The first step may take minutes on a slow machine; the time that is left is printed after it.")
    while training.minutes < plan.minutes and not training.is_stopped:
        t = draw_timesteps(plan, generator)
        alpha_bar = table[t][:, None, None, None].to(device)
        if config.text:
            x_start, tokens, mask = (z.to(device) for z in batches.captioned(training.minutes / plan.minutes))
            conditions = []
        else:
            x_start, low_res = (z.to(device) for z in batches.crops())
            conditions = [F.interpolate(low_res, scale_factor=4, mode="bilinear")]
        eps = torch.randn(x_start.shape, generator=generator).to(device)
        x_t = alpha_bar.sqrt() * x_start + (1 - alpha_bar).sqrt() * eps
        with torch.autocast(device.type, torch.bfloat16):
            text = training.network.encode_text(tokens, mask) if config.text else None
            output = training.network(torch.cat([x_t, *conditions], dim=1), t.to(device), text)
        loss = x_start_loss(output, x_start, alpha_bar)
        training.update(loss)
        loss_now = loss.item()  # waits for the device: before the clock is read

        now = time.monotonic()
        training.minutes += (now - ticked_at) / 60
        ticked_at = now
        progress.step(training.minutes, training.steps * plan.batch_size, loss_now, now)
        if now - saved_at > SAVE_INTERVAL_S:
            training.save()
            saved_at = now
    training.save()
    ended = "stopped" if training.minutes < plan.minutes else "done"
    pictures = f"{training.steps * plan.batch_size:,} pictures"
    progress.end(
        f"{progress.name}: {ended} after {training.minutes:.1f} min, {pictures}; saved in {training.checkpoint}"
    )


def begun(name: str, training: Training) -> str:
    """What is trained and for how long, and what it begins with."""
    plan = training.plan
    if training.minutes >= plan.minutes:
        return f"{name}: has had its {plan.minutes:g} min ({training.checkpoint}); MINUTES sets more"
    run = f"{name}: {plan.minutes:g} min"
    if training.minutes:
        return f"{run}, going on after {training.minutes:.1f} min from {training.checkpoint}"
    return (
        f"{run}, starting from the weights of an earlier model" if training.before["steps"] else f"{run}, from nothing"
    )


def export(checkpoint: Path, weights: Path, config: UNetConfig, concepts: list[str]) -> None:
    """Write the averaged network of a checkpoint in half precision, with all that is needed to open it."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    metadata = {
        "config": config.to_json(),
        "words": json.dumps(state["words"]),
        "concepts": json.dumps(concepts),
        "steps": str(state["before"]["steps"] + state["steps"]),
        "minutes": f"{state['before']['minutes'] + state['minutes']:.0f}",
        "held_out": json.dumps(state["held_out"]),
    }
    weights.parent.mkdir(parents=True, exist_ok=True)
    with atomically(weights) as new:
        write_weights(new, state["average"], metadata)
