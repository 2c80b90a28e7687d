import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def two_ranks():
    """`two_ranks(function, *args)` calls a top-level function on two gloo ranks."""
    file = Path(__file__).with_name("two_ranks.py")
    specification = importlib.util.spec_from_file_location("two_ranks", file)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    ranks = module.TwoRanks()
    yield ranks
    ranks.stop()


@pytest.fixture
def foreign(monkeypatch):
    """Maker of pickles in the shape of StyleGAN2-ADA's, for this test."""
    file = Path(__file__).with_name("stylegan") / "foreign.py"
    specification = importlib.util.spec_from_file_location("foreign", file)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.install(monkeypatch)
    return module


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
