"""The images as the Dockerfiles make them, and the containers as compose starts them; needs a container engine.

TORCH_INDEX chooses torch, as in docker/backend.Dockerfile.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.stack import BUILD_TIMEOUT_S, ROOT, Stack, docker, image_of
from tests.loopback import free_ports


@pytest.fixture(scope="session")
def build_network() -> str:
    """The network that builds use: the machine's own where the engine has no bridge."""
    return "host" if docker("network", "inspect", "bridge").returncode else "default"


@pytest.fixture(scope="session")
def built(build_network: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Both images, nothing of it running yet; removed in the end, the layers stay in the engine's cache."""
    services = {
        service: {
            "image": image_of(service),
            "build": {"network": build_network},
            "environment": {"OMP_NUM_THREADS": "1"},  # two that wait for each other crawl on a busy machine
        }
        for service in ("backend", "page")
    }
    override = tmp_path_factory.mktemp("compose") / "override.yaml"
    override.write_text(json.dumps({"services": services}), encoding="utf-8")  # JSON is YAML
    stack = Stack(override, free_ports("backend", "page"))
    stack.compose("build", timeout_s=BUILD_TIMEOUT_S)
    yield stack
    stack.compose("down", "--volumes", "--rmi=all")


@pytest.fixture(scope="session")
def stack(built: Stack) -> Stack:
    """Both containers, running."""
    built.start()
    return built


@pytest.fixture(scope="session")
def glide_image(build_network: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The backend with MODEL=glide, from checkpoints that have every tensor of the published ones, all zeros."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoints(folder)
    image = image_of("glide")
    done = docker(
        "buildx",
        "build",
        "--load",
        f"--network={build_network}",
        f"--build-context=checkpoints={folder}",
        "--build-arg=MODEL=glide",
        f"--build-arg=TORCH_INDEX={os.environ.get('TORCH_INDEX', '')}",
        "--file=docker/backend.Dockerfile",
        f"--tag={image}",
        ".",
        timeout_s=BUILD_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    yield image
    docker("image", "rm", image)


def write_checkpoints(folder: Path) -> None:
    """Files of the full size that take a few kilobytes: each tensor is one zero, seen everywhere."""
    import gzip

    import torch

    keys = json.loads(gzip.decompress((ROOT / "tests/data/glide_keys.json.gz").read_bytes()))
    for kind in ("base", "upsample"):
        weights = {name: torch.zeros(()).expand(shape) for name, shape in keys[kind].items()}
        torch.save(weights, folder / f"{kind}.pt")
