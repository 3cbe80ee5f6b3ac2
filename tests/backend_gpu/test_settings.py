import os
import subprocess
import sys

import pytest

LOAD = "from backend_gpu.settings import let_waiting_threads_sleep as let; let(); import torch; torch.ones(2)"


@pytest.mark.parametrize(("chosen", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_waiting_threads_sleep_unless_somebody_chose_otherwise(chosen: dict[str, str], expected: str) -> None:
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment = others | chosen | {"OMP_DISPLAY_ENV": "true"}
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
    if "OMP_WAIT_POLICY" not in done.stderr.upper():
        pytest.skip("this torch's OpenMP does not tell its settings")
    assert f"OMP_WAIT_POLICY = '{expected}'" in done.stderr.replace("PASSIVE", "passive").replace("ACTIVE", "active")
