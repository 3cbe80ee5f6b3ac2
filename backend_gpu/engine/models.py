"""The families of models that there are; another one is a file beside this one and a line here."""

from collections.abc import Callable
from dataclasses import dataclass

from backend_gpu.engine import Engine, EngineInfo, glide, mini
from backend_gpu.errors import InvalidRequest
from backend_gpu.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Family:
    """How to come to a model."""

    describe: Callable[[Settings], EngineInfo]  # before it is loaded: quick, and without torch
    open: Callable[[Settings], Engine]  # loads it, after it has downloaded what it needs


# By the name that BACKEND_MODEL has
FAMILIES: dict[str, Family] = {
    "mini": Family(describe=mini.describe, open=mini.open_engine),
    "glide": Family(describe=glide.describe, open=glide.open_engine),
}


def family_of(settings: Settings) -> Family:
    """The family that an operator has chosen.

    Raises:
        InvalidRequest: there is none of that name.
    """
    if settings.model not in FAMILIES:
        raise InvalidRequest(f"BACKEND_MODEL is {settings.model!r}: choose {' or '.join(FAMILIES)}", "model")
    return FAMILIES[settings.model]
