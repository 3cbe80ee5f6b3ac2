import pytest

from backend_gpu.settings import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before any test imports torch


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch  # here, so that a run without such tests never pays for it

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
