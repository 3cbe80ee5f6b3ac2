"""The published checkpoints: fetched once, converted once for each precision, then opened like any other weights."""

import hashlib
from pathlib import Path

import torch

from backend_gpu.files import atomically
from backend_gpu.glide.checkpoint import PUBLISHED, PublishedKind, load_unet, read_published, write_weights
from backend_gpu.glide.metadata import read_metadata
from backend_gpu.glide.unet import UNet


def open_published(kind: PublishedKind, folder: Path, dtype: torch.dtype) -> UNet:
    """Load a published checkpoint from `<folder>/<kind>.<dtype>.safetensors`, made at the first call.

    The first call fetches the .pt unless the folder has it; afterwards that may be deleted. A folder without either
    may have float16 alone, as an image built for any device has: it is converted in memory then.

    Raises:
        CheckpointError: it could not be fetched, stored or read; the message says what to do.
    """
    published = PUBLISHED[kind]
    converted = converted_file(kind, folder, dtype)
    source = folder / published.url.rpartition("/")[2]
    if not source.exists() and (in_use := published_in_use(kind, folder, dtype)) != converted:
        return load_unet(in_use, published.config, dtype)
    if not converted.exists():
        from backend_gpu.download import exclusively, fetch, file_access  # later starts need no HTTP client

        with file_access(converted):
            folder.mkdir(parents=True, exist_ok=True)
            with exclusively(folder / f"{kind}.lock"):
                if not converted.exists():
                    metadata = {"source": source.name, "source_sha256": fetch(published.url, source)}
                    with atomically(converted, converted.with_name(f"{converted.name}.new")) as new:
                        write_weights(new, read_published(source, published.config), metadata, dtype)
    return load_unet(converted, published.config)


def converted_file(kind: PublishedKind, folder: Path, dtype: torch.dtype) -> Path:
    """Where a published checkpoint lies in a precision."""
    return folder / f"{kind}.{str(dtype).removeprefix('torch.')}.safetensors"


def published_in_use(kind: PublishedKind, folder: Path, dtype: torch.dtype) -> Path:
    """The file that serves a precision: the one in it, or the one in half precision where that alone is there."""
    converted, half = converted_file(kind, folder, dtype), converted_file(kind, folder, torch.float16)
    return half if half.exists() and not converted.exists() else converted


def published_hash(folder: Path, dtype: torch.dtype) -> str:
    """Identifies the two published checkpoints in use: the same in every precision that they were converted to."""
    files = (published_in_use(kind, folder, dtype) for kind in ("base", "upsample"))
    sources = "".join(read_metadata(path)["source_sha256"] for path in files)
    return hashlib.sha256(sources.encode()).hexdigest()
