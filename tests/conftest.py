import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch  # here, so that a run without such tests never pays for it

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
