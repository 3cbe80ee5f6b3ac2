"""The two images: named by what they are built from, built and pushed if they are not there.

Weights and torch are the backend's; the page's image does not ask for its arguments.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from terraform.deploy.commands import Commands
from terraform.deploy.errors import CommandFailed, DeployError
from terraform.deploy.options import ROOT, Options

DOCKERFILES = {"backend": "docker/backend.Dockerfile", "page": "docker/frontend.Dockerfile"}
CONFIG = "terraform/cloudbuild.yaml"


def tag_of_tree(commands: Commands, options: Options) -> str:
    """The commit; a tree with changes gets a tag of its own, with `dirty` and what it holds in it."""
    try:
        tag = commands.run("git", "rev-parse", "--short=12", "HEAD").strip()
    except CommandFailed as error:
        raise DeployError("images are named by their commit: deploy from a git checkout that has one") from error
    if commands.run("git", "status", "--porcelain").strip():
        tag += f"-dirty-{tree_of_working_copy(commands)[:8]}"
        commands.say(f"the working tree has changes: the images are marked {tag}")
    if options.torch_index:
        tag += f"-torch-{sha256(options.torch_index.encode()).hexdigest()[:8]}"
    return tag if options.model == "mini" else f"{tag}-{options.model}"


def tree_of_working_copy(commands: Commands) -> str:
    """Git's name for the files as they are now; its index is left alone."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        commands.run("git", "add", "--all", environment=index)
        return commands.run("git", "write-tree", environment=index).strip()


def build_missing(commands: Commands, options: Options, tag: str, build: dict[str, str]) -> None:
    """Build the images that the registry lacks, side by side: each takes minutes."""
    missing = [
        name
        for name in DOCKERFILES
        if not commands.has("artifacts", "docker", "images", "describe", f"{options.registry}/{name}:{tag}")
    ]
    for name in missing:
        if not (ROOT / DOCKERFILES[name]).exists():
            raise DeployError(f"{DOCKERFILES[name]} is missing")
    if not missing:
        commands.say(f"images {tag}: built before")
        return
    commands.say(f"images {tag}: building {' and '.join(missing)}")
    if options.builder == "docker":
        commands.gcloud("auth", "configure-docker", options.registry.partition("/")[0])
        for name in missing:
            build_here(commands, options, name, tag)
        return
    with ThreadPoolExecutor() as builders:
        list(builders.map(lambda name: build_in_cloud(commands, options, f"{name}:{tag}", build), missing))


def build_in_cloud(commands: Commands, options: Options, image: str, build: dict[str, str]) -> None:
    """Build by Cloud Build, as an account that may do nothing else."""
    values = {
        "_IMAGE": f"{options.registry}/{image}",
        "_DOCKERFILE": DOCKERFILES[image.partition(":")[0]],
        "_MODEL": options.model,
        "_TORCH_INDEX": options.torch_index,
        "_REVISION": image.partition(":")[2],
    }
    commands.gcloud(
        "builds",
        "submit",
        str(ROOT),
        f"--config={ROOT / CONFIG}",
        f"--service-account={build['account']}",
        f"--gcs-source-staging-dir=gs://{build['bucket']}/source",
        f"--substitutions={','.join(f'{name}={value}' for name, value in values.items())}",
        "--suppress-logs",
    )


def build_here(commands: Commands, options: Options, name: str, tag: str) -> None:
    """Build by this machine's docker, for the cloud's kind of processor."""
    commands.run(
        "docker",
        "buildx",
        "build",
        "--platform=linux/amd64",
        "--push",
        f"--file={ROOT / DOCKERFILES[name]}",
        f"--tag={options.registry}/{name}:{tag}",
        f"--build-arg=MODEL={options.model}",
        f"--build-arg=TORCH_INDEX={options.torch_index}",
        f"--build-arg=REVISION={tag}",
        str(ROOT),
    )
