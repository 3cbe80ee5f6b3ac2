"""How fast GLIDE runs here: `python -m tests.benchmarks.bench` measures and prints tables, and keeps them in a file.

Full-size networks get random weights: speed and rounding don't depend on what they have learned. Variants take turns
in one process, so the ratios hold on a machine that does other things too; the seconds are medians and hold less.

The plain form, which speed-ups are measured against, works as the reference implementation does: float32, the text read
in every pass, attention written out as two products and a softmax, and glibc's allocator as it comes.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from backend_gpu.glide.acceleration import (
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    accelerate,
    best_dtype,
    keep_freed_memory,
)
from backend_gpu.glide.checkpoint import load_unet, write_weights
from backend_gpu.glide.config import BASE, UPSAMPLER, UNetConfig
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling, StepEstimate
from backend_gpu.glide.tokenizer import BytePairTokenizer, Tokenizer
from backend_gpu.glide.unet import Attention, UNet
from backend_gpu.mini.metadata import WEIGHTS
from backend_gpu.mini.model import open_mini

MODELS = ("mini", "glide")
PROMPT = "a red apple on a blue background"
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
CONFIGS: dict[str, UNetConfig] = {"base": BASE, "upsample": UPSAMPLER}
BATCH = {"base": 2, "upsample": 1}  # guidance doubles the base model's


@dataclass(frozen=True)
class Variant:
    """One way to run one network."""

    name: str
    run: Callable[[], Tensor]
    is_plain: bool = False


@dataclass(frozen=True)
class Timing:
    """What came of it."""

    name: str
    seconds: float  # median of the rounds
    speed_up: float  # median over the rounds of the first variant's time by this one's
    rms_error: float  # of the output, over the first variant's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--rounds", type=int, default=5, help="turns of every variant")
    parser.add_argument(
        "--compile", nargs="+", choices=CONFIGS, default=(), help="networks to torch.compile too: minutes if full-size"
    )
    parser.add_argument("--out", type=Path, default=Path("out/benchmark.md"), help="where the tables go too")
    parser.add_argument("--measure-loading", nargs=2, metavar=("NETWORK", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_loading:  # a process of its own, started below
        return measure_loading(*options.measure_loading)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for line in tables(options):
        print(line, flush=True)
        lines.append(line)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return None


def tables(options: argparse.Namespace) -> Iterator[str]:
    """All tables, line by line."""
    yield " ".join(["`python -m tests.benchmarks.bench", *sys.argv[1:]]) + "`"
    yield machine()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    yield f"Device {device}; the dtype that inference takes here: {NAMES[best_dtype(device)]}."
    for model in options.models:
        networks, tokenizer = networks_of(model)
        yield from ("", f"## {model}")
        for network, unet in networks.items():
            yield from pass_table(network, unet, tokenizer, device, options)
        yield from picture_table(model, networks, tokenizer, device)
    yield from loading_table(options.models)


def networks_of(model: str) -> tuple[dict[str, UNet], Tokenizer]:
    """Base model and upsampler in float32 on the CPU, and their tokenizer."""
    if model == "mini":
        mini = open_mini()
        return {"base": mini.base, "upsample": mini.upsampler}, mini.tokenizer
    return {network: random_unet(config) for network, config in CONFIGS.items()}, BytePairTokenizer()


def random_unet(config: UNetConfig) -> UNet:
    """Random weights, none of them zero, so that every branch reaches the output."""
    torch.manual_seed(0)
    unet = UNet(config)
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return unet.eval().requires_grad_(False)


def copy_of(unet: UNet, dtype: torch.dtype, device: torch.device) -> UNet:
    """The same network with weights of its own."""
    weights = {name: tensor.to(device, dtype, copy=True) for name, tensor in unet.state_dict().items()}
    other = UNet(unet.config)
    other.load_state_dict(weights, assign=True)
    return other.eval().requires_grad_(False)


def pass_table(
    network: str, unet: UNet, tokenizer: Tokenizer, device: torch.device, options: argparse.Namespace
) -> Iterator[str]:
    """Seconds of one denoising step's network."""
    config, batch = unet.config, BATCH[network]
    x = torch.randn(batch, config.in_channels, config.image_size, config.image_size, device=device)
    t = torch.full((batch,), 500.0, device=device)
    tokens, mask = (torch.tensor([row] * batch, device=device) for row in tokenizer.encode(PROMPT))

    def text_always(of: UNet) -> Callable[[], Tensor]:
        return lambda: of(x, t, of.encode_text(tokens, mask) if config.text else None)

    def text_once(of: UNet) -> Callable[[], Tensor]:
        text = of.encode_text(tokens, mask) if config.text else None
        return lambda: of(x, t, text)

    with torch.inference_mode():
        plain = copy_of(unet, torch.float32, device)
        for module in plain.modules():
            module.__class__ = PlainAttention if type(module) is Attention else type(module)
        variants = [Variant("float32, plain", text_always(plain), is_plain=True)]
        for dtype in dict.fromkeys((torch.float32, best_dtype(device))):
            fast = accelerate(copy_of(unet, dtype, device))
            variants.append(Variant(f"{NAMES[dtype]}, as inference runs it", text_once(fast)))
            if network in options.compile:
                compiled = copy_of(unet, dtype, device)
                compiled.compile()
                variants.append(Variant(f"{NAMES[dtype]}, torch.compile", text_once(compiled)))
        first_s = [timed(variant)[0] for variant in variants]
        timings = take_turns(variants, options.rounds)
    yield from ("", f"### one pass of the {network} network, batch {batch}")
    yield from ("| variant | seconds | speed-up | rms error | first call |", "| --- | --- | --- | --- | --- |")
    for timing, first in zip(timings, first_s, strict=True):
        cells = f"{timing.seconds:.4g} | {timing.speed_up:.2f}x | {timing.rms_error:.1e} | {first:.3g} s"
        yield f"| {timing.name} | {cells} |"


class PlainAttention(Attention):
    """Attention as the reference writes it."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scale = q.shape[-1] ** -0.25
        attended: Tensor = (q * scale @ (k * scale).mT).softmax(-1) @ v
        return attended


def timed(variant: Variant) -> tuple[float, Tensor]:
    """Seconds of one call, the device's work included, and what it returned."""
    use_default_allocator() if variant.is_plain else keep_freed_memory()
    started_at = time.perf_counter()
    result = variant.run()
    if result.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started_at, result


def use_default_allocator() -> None:
    """Undo `keep_freed_memory`: large tensors get fresh pages each time."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc adapts to by itself on 64 bits
        libc.mallopt(M_TRIM_THRESHOLD, 64 * 2**20)


def take_turns(variants: Sequence[Variant], rounds: int) -> list[Timing]:
    """Run every variant once in each round; calls under 50 ms are repeated, and their mean counts."""
    repeats = [max(1, round(0.05 / timed(variant)[0])) for variant in variants]
    seconds: list[list[float]] = [[] for _ in variants]
    for _ in range(rounds):
        for variant, times, repeat in zip(variants, seconds, repeats, strict=True):
            times.append(statistics.mean(timed(variant)[0] for _ in range(repeat)))
    expected = variants[0].run()
    timings = []
    for variant, times in zip(variants, seconds, strict=True):
        speed_ups = [plain / own for plain, own in zip(seconds[0], times, strict=True)]
        rms_error = float((variant.run() - expected).norm() / expected.norm())
        timings.append(Timing(variant.name, statistics.median(times), statistics.median(speed_ups), rms_error))
    return timings


def picture_table(model: str, networks: dict[str, UNet], tokenizer: Tokenizer, device: torch.device) -> Iterator[str]:
    """Seconds of whole pictures, 256x256, from prompt to pixels."""
    sampling = Sampling(steps=20, upsample_steps=4 if model == "mini" else 10)
    yield from (
        "",
        f"### one picture: {sampling.sampler}, {sampling.steps} + {sampling.upsample_steps} steps, guidance",
    )
    yield from ("| dtype | n | base | upsample | in all, per picture |", "| --- | --- | --- | --- | --- |")
    for dtype in dict.fromkeys((torch.float32, best_dtype(device))):
        base, upsampler = (accelerate(copy_of(unet, dtype, device)) for unet in networks.values())
        pipeline = Pipeline(base, upsampler, tokenizer)
        pipeline.draw([Picture(prompt=PROMPT, seed=0)], Sampling(steps=1, upsample_steps=1))  # the first call
        for count in (1, 4) if model == "mini" else (1,):
            ended_at: dict[str, float] = {}
            pictures = [Picture(prompt=PROMPT, seed=seed) for seed in range(count)]

            started_at = time.perf_counter()
            for item in pipeline.generate(pictures, sampling):
                if isinstance(item, StepEstimate):
                    ended_at[item.stage] = time.perf_counter()
            whole_s = time.perf_counter() - started_at
            base_s, upsample_s = ended_at["base"] - started_at, ended_at["upsample"] - ended_at["base"]
            yield f"| {NAMES[dtype]} | {count} | {base_s:.2f} s | {upsample_s:.2f} s | {whole_s / count:.2f} s |"


def loading_table(models: Sequence[str]) -> Iterator[str]:
    """Seconds until a network can be called and until its first pass is done, each in a new process."""
    yield from ("", "### from file to first pass, page cache warm, after `import torch`")
    yield from ("| network | loaded | first pass | peak memory |", "| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            for network in ("base", "upsample"):
                path = WEIGHTS / f"{'upsampler' if network == 'upsample' else network}.safetensors"
                if model == "glide":
                    path = Path(folder) / f"{network}.safetensors"
                    unet = random_unet(CONFIGS[network])
                    write_weights(path, unet.state_dict(), {}, best_dtype(torch.device("cpu")))
                command = [sys.executable, "-m", "tests.benchmarks.bench", "--measure-loading", network, str(path)]
                runs = [
                    json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                    for _ in range(3)
                ]
                loaded, first, peak = (statistics.median(run[key] for run in runs) for key in runs[0])
                yield f"| {model} {network} | {loaded:.2f} s | {first:.2f} s | {peak:.2f} GB |"


def measure_loading(network: str, file: str) -> None:
    """Load one network and call it once; prints seconds and gigabytes as JSON."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
    config = UNetConfig.from_json(metadata["config"]) if "config" in metadata else CONFIGS[network]
    started_at = time.perf_counter()
    unet = accelerate(load_unet(Path(file), config, torch.float32 if "config" in metadata else None))
    loaded_s = time.perf_counter() - started_at
    with torch.inference_mode():
        text = None
        if config.text:
            tokens = torch.zeros(BATCH[network], config.text.context, dtype=torch.long)
            text = unet.encode_text(tokens, tokens == 0)
        unet(
            torch.zeros(BATCH[network], config.in_channels, *[config.image_size] * 2), torch.zeros(BATCH[network]), text
        )
    first_s = time.perf_counter() - started_at - loaded_s
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would count the parent's memory too
    peak_gb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e9
    print(json.dumps({"loaded": loaded_s, "first": first_s, "peak": peak_gb}))


def machine() -> str:
    """What the numbers were measured on."""
    return f"{processor()}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}"


def processor() -> str:
    """The processor's name, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
