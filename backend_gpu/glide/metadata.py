"""What a file of weights says of itself; needs no torch."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from backend_gpu.errors import CheckpointError


def read_metadata(path: Path) -> dict[str, str]:
    """What `checkpoint.write_weights` noted in a file.

    Raises:
        CheckpointError: the file is missing or broken.
    """
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"can't read the weights in {path} ({error})") from error
