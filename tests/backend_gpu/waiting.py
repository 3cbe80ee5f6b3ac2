"""How tests wait for what another thread or process does: by looking, with a limit that only a fault reaches."""

import time
from collections.abc import Callable

WAIT_S = 120.0  # for what takes seconds at most, on a machine that does much else


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
