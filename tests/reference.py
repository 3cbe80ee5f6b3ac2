"""How far our GLIDE is from the reference's stored numbers: `python -m tests.reference` prints the table."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from backend_gpu.glide.checkpoint import empty_unet, to_our_names
from backend_gpu.glide.config import NoiseSchedule, TextConfig, UNetConfig
from backend_gpu.glide.guidance import with_guidance
from backend_gpu.glide.samplers import (
    Constrain,
    DenoisingModel,
    Prediction,
    SamplingRun,
    clip,
    keeping_known,
    last_sample,
    sample_ddim,
    sample_ddpm,
)
from backend_gpu.glide.schedule import Step, alpha_bars, betas, space_timesteps, steps_at
from backend_gpu.glide.unet import TextContext, UNet, timestep_embedding

Kind = Literal["base", "inpaint", "super_res", "super_res_inpaint"]

DATA = Path(__file__).parent / "data" / "glide_reference"
KINDS: tuple[Kind, ...] = ("base", "inpaint", "super_res", "super_res_inpaint")
FORWARD_CASES: tuple[tuple[Kind, str], ...] = (
    ("base", "a"),
    ("base", "frac"),
    ("inpaint", "a"),
    ("inpaint", "noimage"),
    ("super_res", "a"),
    ("super_res", "full256"),
    ("super_res_inpaint", "a"),
    ("super_res_inpaint", "noimage"),
)
REFERENCE_SCHEDULES: tuple[tuple[str, NoiseSchedule], ...] = (
    ("squaredcos_cap_v2", "squared_cosine"),
    ("linear", "linear"),
)
EMBEDDING_WIDTHS = (32, 192)
RESPACINGS: tuple[int | Literal["fast27"], ...] = (10, 20, 27, 100, 500, "fast27")


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far float32 may be off: somewhat more than the reference is from itself, see the README of the data."""

    max_abs: float
    rms_relative: float


FORWARD = Tolerance(max_abs=5e-5, rms_relative=5e-6)
TRAJECTORY = Tolerance(max_abs=1e-3, rms_relative=1e-3)
EMBEDDING = Tolerance(max_abs=1e-6, rms_relative=1e-6)
TABLE_RTOL = 1e-12


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Our numbers beside the reference's."""

    ours: Tensor
    theirs: Tensor

    @property
    def max_abs(self) -> float:
        """Largest absolute error."""
        return float((self.ours.double() - self.theirs.double()).abs().max())

    @property
    def rms_relative(self) -> float:
        """Root mean square of the error over that of the reference."""
        return float((self.ours.double() - self.theirs.double()).norm() / self.theirs.double().norm())

    @property
    def max_relative(self) -> float:
        """Largest error relative to its own entry; equal entries, zeros included, have none."""
        difference = (self.ours.double() - self.theirs.double()).abs()
        return float(torch.where(difference == 0, 0.0, difference / self.theirs.double().abs()).max())

    def is_within(self, tolerance: Tolerance) -> bool:
        """Say whether both errors are (also false for NaN)."""
        return self.max_abs <= tolerance.max_abs and self.rms_relative <= tolerance.rms_relative


@dataclass(frozen=True, kw_only=True)
class ReferenceRun:
    """How the reference made a trajectory."""

    kind: Kind
    sampler: Literal["ddpm", "ddim"]
    guidance_scale: float | None = None


RUNS: dict[str, ReferenceRun] = {
    "base_ancestral_cfg3": ReferenceRun(kind="base", sampler="ddpm", guidance_scale=3.0),
    "base_ddim_cfg3": ReferenceRun(kind="base", sampler="ddim", guidance_scale=3.0),
    "base_ancestral_cfg3_batch2": ReferenceRun(kind="base", sampler="ddpm", guidance_scale=3.0),
    "super_res_ddim_fast27": ReferenceRun(kind="super_res", sampler="ddim"),
    "inpaint_ancestral_cfg5": ReferenceRun(kind="inpaint", sampler="ddpm", guidance_scale=5.0),
}


def reference_json() -> dict[str, Any]:
    """Timesteps and the like."""
    content: dict[str, Any] = json.loads((DATA / "diffusion.json").read_text(encoding="utf-8"))
    return content


def load_small_unet(kind: Kind) -> UNet:
    """One of the reference's small models in float32, loaded strictly."""
    with safe_open(DATA / f"{kind}.safetensors", framework="pt") as file:
        options = json.loads(file.metadata()["config"])
    config = UNetConfig(
        image_size=options["image_size"],
        in_channels=3 + 4 * options["inpaint"] + 3 * options["super_res"],
        num_channels=options["num_channels"],
        channel_mult=tuple(int(mult) for mult in options["channel_mult"].split(",")),
        num_res_blocks=options["num_res_blocks"],
        attention_resolutions=tuple(int(side) for side in options["attention_resolutions"].split(",")),
        head_channels=options["num_head_channels"],
        text=TextConfig(
            vocab_size=options["n_vocab"],
            context=options["text_ctx"],
            width=options["xf_width"],
            layers=options["xf_layers"],
            heads=options["xf_heads"],
        ),
        noise_schedule="linear" if options["noise_schedule"] == "linear" else "squared_cosine",
    )
    unet = empty_unet(config)
    weights = {name: tensor.float() for name, tensor in load_file(DATA / f"{kind}.safetensors").items()}
    unet.load_state_dict(to_our_names(weights), strict=True, assign=True)
    return unet.eval().requires_grad_(False)


def load_case(file: str, case: str) -> dict[str, Tensor]:
    """The tensors of one case or run, without its name."""
    tensors = load_file(DATA / f"{file}.safetensors")
    return {name.removeprefix(f"{case}."): tensor for name, tensor in tensors.items() if name.startswith(f"{case}.")}


def conditioning_channels(kind: Kind, given: dict[str, Tensor], like: Tensor) -> Tensor:
    """What the network's input carries after x: (N, 0, 3, 4 or 7, H, W)."""
    channels = [like[:, :0]]
    if "inpaint" in kind:
        mask = given.get("inpaint_mask", torch.zeros_like(like[:, :1]))
        channels += [given.get("inpaint_image", torch.zeros_like(like)) * mask, mask]
    if "super_res" in kind:
        channels.append(F.interpolate(given["low_res"], like.shape[-2:], mode="bilinear", align_corners=False))
    return torch.cat(channels, 1)


def thinned(full: Tensor, stored: Tensor) -> Tensor:
    """The pixels that were stored: every k-th of a side, both edges included."""
    stride = (full.shape[-1] - 1) // (stored.shape[-1] - 1)
    return full[..., ::stride, ::stride]


@torch.inference_mode()
def compare_forward(kind: Kind, case: str) -> Comparison:
    """One pass of the network."""
    unet, given = load_small_unet(kind), load_case(f"{kind}_io", case)
    text = unet.encode_text(given["tokens"], given["mask"])
    x = torch.cat([given["x"], conditioning_channels(kind, given, given["x"])], 1)
    output = unet(x, given["timesteps"].float(), text)
    return Comparison(ours=thinned(output, given["output"]), theirs=given["output"])


@torch.inference_mode()
def compare_text(kind: Kind, name: Literal["xf_out", "xf_proj"]) -> Comparison:
    """States of the text transformer, or what it adds to the time embedding."""
    given = load_case(f"{kind}_io", "a")
    states, pooled = load_small_unet(kind).text(given["tokens"], given["mask"])
    return Comparison(ours=states.mT if name == "xf_out" else pooled, theirs=given[name])


def compare_trajectory(name: str) -> Comparison:
    """All stored states of a sampling run, the last one included."""
    reference, given = RUNS[name], load_case("trajectories", name)
    unet = load_small_unet(reference.kind)
    with torch.inference_mode():
        text = unet.encode_text(given["tokens"], given["mask"])
    extra = conditioning_channels(reference.kind, given, given["x_T"][:1].expand(len(given["tokens"]), -1, -1, -1))
    constrain: Constrain = clip
    if "inpaint_image" in given:
        constrain = keeping_known(given["inpaint_image"][:1], given["inpaint_mask"][:1])

    model = denoising_model(unet, text, extra)
    if reference.guidance_scale is not None:
        model = with_guidance(model, torch.full((len(given["x_T"]),), reference.guidance_scale))
    visited: list[Tensor] = []
    run = SamplingRun(
        noise=given["x_T"],
        steps=steps_at(unet.config.noise_schedule, reference_json()["network_timesteps"][name]),
        constrain=constrain,
    )
    noises = iter(given.get("noise", ()))
    recorded = recording(model, visited)
    if reference.sampler == "ddpm":
        final = last_sample(sample_ddpm(recorded, run, lambda: next(noises)))
    else:
        final = last_sample(sample_ddim(recorded, run))
    states = torch.stack([*visited[1:], final])
    if name == "super_res_ddim_fast27":
        states = states[reference_json()["super_res_ddim_fast27_kept_steps"]]
    return Comparison(ours=thinned(states, given["x"]), theirs=given["x"])


def denoising_model(unet: UNet, text: TextContext, extra: Tensor) -> DenoisingModel:
    """The network with its text and conditioning channels filled in."""

    def model(x_t: Tensor, t: float) -> Prediction:
        output = unet(torch.cat([x_t, extra], 1), torch.full((len(x_t),), t), text)
        eps, variance_mix = output.chunk(2, 1)
        return Prediction(eps, variance_mix)

    return model


def recording(model: DenoisingModel, visited: list[Tensor]) -> DenoisingModel:
    """The model, noting every x_t that it is given."""

    def recorded(x_t: Tensor, t: float) -> Prediction:
        visited.append(x_t)
        return model(x_t, t)

    return recorded


def compare_embedding(channels: int) -> Comparison:
    """Sinusoidal embedding of timesteps."""
    given = load_case("diffusion", "timestep_embedding")
    return Comparison(ours=timestep_embedding(given["timesteps"], channels), theirs=given[str(channels)])


def compare_schedule(reference_name: str, name: NoiseSchedule) -> Comparison:
    """Betas and alpha_bars of all timesteps."""
    given = load_case("diffusion", reference_name)
    ours = torch.tensor([betas(name), alpha_bars(name)], dtype=torch.float64)
    return Comparison(ours=ours, theirs=torch.stack([given["betas"], given["alphas_cumprod"]]))


def compare_respacing(reference_name: str, name: NoiseSchedule, spacing: int | Literal["fast27"]) -> Comparison:
    """Betas and posterior variances of the visited steps."""
    given = load_case("diffusion", f"{reference_name}.respaced.{spacing}")
    steps = respaced(name, spacing)
    ours = [[step.beta for step in steps], [step.posterior_variance for step in steps]]
    theirs = torch.stack([given["betas"], given["posterior_variance"]])
    return Comparison(ours=torch.tensor(ours, dtype=torch.float64), theirs=theirs)


def respaced(name: NoiseSchedule, spacing: int | Literal["fast27"]) -> list[Step]:
    """The steps of a re-spaced schedule in the reference's order, cleanest first."""
    return steps_at(name, space_timesteps(1000, spacing))[::-1]


def rows() -> Iterator[tuple[str, float, float, str]]:
    """Every item with its largest absolute error, its relative error and the tolerance."""
    text_names: tuple[Literal["xf_out", "xf_proj"], ...] = ("xf_out", "xf_proj")
    float32 = [(f"forward {kind} {case}", compare_forward(kind, case), FORWARD) for kind, case in FORWARD_CASES]
    float32 += [(f"text {kind} {name}", compare_text(kind, name), FORWARD) for kind in KINDS for name in text_names]
    float32 += [(f"trajectory {name}", compare_trajectory(name), TRAJECTORY) for name in RUNS]
    float32 += [(f"timestep embedding {width}", compare_embedding(width), EMBEDDING) for width in EMBEDDING_WIDTHS]
    for item, comparison, tolerance in float32:
        limits = f"{tolerance.max_abs:.0e}, rms {tolerance.rms_relative:.0e}"
        yield item, comparison.max_abs, comparison.rms_relative, limits

    for reference_name, schedule in REFERENCE_SCHEDULES:
        tables = {f"schedule {schedule}": compare_schedule(reference_name, schedule)}
        for spacing in RESPACINGS:
            tables[f"{schedule} re-spaced {spacing}"] = compare_respacing(reference_name, schedule, spacing)
        for item, comparison in tables.items():
            yield item, comparison.max_abs, comparison.max_relative, f"rtol {TABLE_RTOL:.0e}"


if __name__ == "__main__":
    print(
        "| item | max abs error | relative error (rms; in tables the largest) | tolerance |\n| --- | --- | --- | --- |"
    )
    for item, max_abs, relative, limits in rows():
        print(f"| {item} | {max_abs:.1e} | {relative:.1e} | {limits} |")
