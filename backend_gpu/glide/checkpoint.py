"""Weights on disk: published checkpoints under our names, and files that load at once."""

import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from backend_gpu.errors import CheckpointError
from backend_gpu.glide.config import BASE, BASE_INPAINT, UPSAMPLER, UPSAMPLER_INPAINT, UNetConfig
from backend_gpu.glide.unet import UNet

PublishedKind = Literal["base", "upsample", "base-inpaint", "upsample-inpaint"]


@dataclass(frozen=True)
class Published:
    """A checkpoint on OpenAI's server; whoever opens it fetches it."""

    url: str
    config: UNetConfig


_FOLDER = "https://openaipublic.blob.core.windows.net/diffusion/dec-2021"
PUBLISHED: Mapping[PublishedKind, Published] = {
    "base": Published(f"{_FOLDER}/base.pt", BASE),
    "upsample": Published(f"{_FOLDER}/upsample.pt", UPSAMPLER),
    "base-inpaint": Published(f"{_FOLDER}/base_inpaint.pt", BASE_INPAINT),
    "upsample-inpaint": Published(f"{_FOLDER}/upsample_inpaint.pt", UPSAMPLER_INPAINT),
}

RENAMES: tuple[tuple[str, str], ...] = (  # published name to ours, applied in this order
    (r"^input_blocks\.", "down."),
    (r"^middle_block\.", "middle."),
    (r"^output_blocks\.", "up."),
    (r"\.in_layers\.0\.", ".in_norm."),
    (r"\.in_layers\.2\.", ".in_conv."),
    (r"\.emb_layers\.1\.", ".embedding."),
    (r"\.out_layers\.0\.", ".out_norm."),
    (r"\.out_layers\.3\.", ".out_conv."),
    (r"\.skip_connection\.", ".skip."),
    (r"\.encoder_kv\.", ".text_kv."),
    (r"\.proj_out\.", ".proj."),
    (r"^out\.0\.", "out_norm."),
    (r"^out\.2\.", "out_conv."),
    (r"^(token_embedding\.|positional_embedding$|padding_embedding$)", r"text.\1"),
    (r"^final_ln\.", "text.final_norm."),
    (r"^transformer_proj\.", "text.pooled."),
    (r"^transformer\.resblocks\.", "text.blocks."),
    (r"\.attn\.c_qkv\.", ".qkv."),
    (r"\.attn\.c_proj\.", ".proj."),
    (r"\.ln_1\.", ".attention_norm."),
    (r"\.ln_2\.", ".mlp_norm."),
    (r"\.mlp\.c_fc\.", ".mlp_in."),
    (r"\.mlp\.c_proj\.", ".mlp_out."),
)


def read_published(path: Path, config: UNetConfig) -> dict[str, Tensor]:
    """The weights of a published .pt in our names, memory-mapped if it is of today's format.

    Raises:
        CheckpointError: the file is no checkpoint of this config.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} can't be read as a checkpoint: delete it to fetch it again") from error
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise CheckpointError(f"{path} holds no state dict of a model: get the right file")
    weights = to_our_names(content)
    _check_fit(weights, empty_unet(config), path, "get the right file, or delete it to fetch it again")
    return weights


def to_our_names(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name and shape the tensors of a published checkpoint as ours; no data is copied."""
    weights = {}
    for name, tensor in published.items():
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        weights[name] = tensor.squeeze(-1) if tensor.ndim == 3 else tensor  # (out, in, 1): linear layers for us
    return weights


def load_unet(path: Path, config: UNetConfig, dtype: torch.dtype | None = None) -> UNet:
    """Load a UNet for inference onto the CPU; its weights are pages of the file unless the dtype has to change.

    Raises:
        CheckpointError: the file is missing or broken, or is not of this config.
    """
    advice = "put the right file there, or delete a converted one to have it made again"
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"there are no weights at {path}") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"can't read the weights in {path} ({error}): {advice}") from error
    unet = empty_unet(config)
    _check_fit(weights, unet, path, advice)
    if dtype is not None:
        weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
    unet.load_state_dict(weights, strict=True, assign=True)
    return unet.eval().requires_grad_(False)


def write_weights(
    path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str], dtype: torch.dtype = torch.float16
) -> None:
    """Write a state dict in one dtype; a call that is interrupted leaves a part of the file.

    Raises:
        CheckpointError: the file can't be written.
    """
    try:
        save_file({name: tensor.to(dtype).contiguous() for name, tensor in weights.items()}, path, dict(metadata))
        path.chmod(0o644)  # safetensors leaves it readable for its owner only
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"can't write {path} ({error}): free some space or choose another folder") from error


def empty_unet(config: UNetConfig) -> UNet:
    """A UNet whose parameters are unset memory: never touched, so it costs next to no time and no space."""
    with _SkipInitialisers():
        return UNet(config)


class _SkipInitialisers(TorchFunctionMode):
    """While it is active, filling a tensor does nothing (a meta device does as much, but its first use takes 1 s)."""

    FILLS = frozenset({Tensor.fill_, Tensor.zero_, Tensor.normal_, Tensor.uniform_})

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in self.FILLS or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _check_fit(weights: Mapping[str, Tensor], unet: UNet, path: Path, advice: str) -> None:
    """Raise unless these are just the tensors that the model has."""
    expected = unet.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in weights]
    problems += [f"{name} is not of this model" for name in weights if name not in expected]
    problems += [
        f"{name} is {tuple(weights[name].shape)} and not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{path} does not fit the model ({', '.join(problems[:3])}{more}): {advice}")
