"""What a family says of its model: an impossible model is refused where it is written, not where a form is drawn."""

from dataclasses import replace
from typing import Any

import pytest

from backend_gpu.engine import Guidance
from tests.backend_gpu.fake_engine import FakeEngine

FIRST, SECOND = FakeEngine.info.stages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ()}, "one or two"),
        ({"stages": (FIRST, SECOND, replace(SECOND, name="third"))}, "one or two"),
        ({"stages": (FIRST, FIRST)}, "different names"),
        ({"samplers": ()}, "no sampler"),
        ({"qualities": {"fast": {FIRST.name: 3}}}, "fast"),
    ],
    ids=str,
)
def test_a_model_that_no_request_could_be_made_for_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FakeEngine.info, **changes)


@pytest.mark.parametrize("limits", [(0.5, 0.0, 2.0), (1.5, 2.0, 3.0), (4.0, 2.0, 3.0)], ids=str)
def test_a_guidance_out_of_its_own_range_is_refused(limits: tuple[float, float, float]) -> None:
    default, least, most = limits
    with pytest.raises(ValueError, match="guidance"):
        Guidance(default=default, least=least, most=most)
