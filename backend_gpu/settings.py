"""Settings of the backend, from the environment (`BACKEND_…`)."""

from pathlib import Path
from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict

ModelName = Literal["mini", "glide"]


class Settings(BaseSettings):
    """What an operator may choose; read once by the entry point."""

    model_config = SettingsConfigDict(env_prefix="BACKEND_")

    data_dir: Path = Path("data")  # downloaded and converted checkpoints lie in its folder `models`
    model: ModelName = "mini"
    device: Literal["auto", "cpu", "cuda"] = "auto"
