import importlib.util
import logging
from pathlib import Path

import pytest

# Made once, in over 10 s, for whichever test comes first: six runs, and all figures of a report.
LONG_SET_UPS = {"finished", "drawn"}


@pytest.fixture(autouse=True)
def log_as_before():
    """A stage keeps its log to itself; the next test must find it open again.

    pytest listens at a closed log directly, and hears twice what a test then opens.
    """
    yield
    logging.getLogger("sem2ct").propagate = True


def started(count):
    """Ranks for the session, from the file beside this one."""
    file = Path(__file__).with_name("ranks.py")
    specification = importlib.util.spec_from_file_location("ranks", file)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    ranks = module.Ranks(count)
    ranks.start()
    yield ranks
    ranks.stop()


@pytest.fixture(scope="session")
def two_ranks():
    """`two_ranks(function, *args)` calls a top-level function on two gloo ranks."""
    yield from started(2)


@pytest.fixture(scope="session")
def four_ranks():
    """As `two_ranks`, on four."""
    yield from started(4)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Folder of six finished runs, size=tiny, which tests may add runs to."""
    from sem2ct import cli

    root = tmp_path_factory.mktemp("outputs")
    for command in cli.STAGES:
        with pytest.raises(SystemExit) as end:
            cli.main([command, "size=tiny", "machine=cpu", f"run_root={root}"])
        assert end.value.code == 0, command
    return root


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
    for item in items:
        if LONG_SET_UPS & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
