import importlib.util
from pathlib import Path

import pytest

from sem2ct.data import pyramid
from sem2ct.reporting import figures, report


@pytest.fixture(scope="session")
def small_scan():
    """The module of that name beside this one."""
    file = Path(__file__).with_name("small_scan.py")
    specification = importlib.util.spec_from_file_location("small_scan", file)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def translatable(tmp_path_factory, small_scan):
    """A folder with a scan whose field of view is round, and runs of train-cyclegan."""
    root = tmp_path_factory.mktemp("translatable")
    small_scan.bring(root)
    return root


@pytest.fixture
def slabs_of_four_slices(monkeypatch):
    """Of the whole slices of that scan, refined by 4."""
    monkeypatch.setattr(pyramid, "SLAB_BYTES", 4 * 120 * 152)
    monkeypatch.setattr(pyramid, "LEAST_SLICES", 1)


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves the report away: its own tests look at it."""
    monkeypatch.setattr(report, "draw", lambda folder: folder / "report.html")


@pytest.fixture
def six(monkeypatch):
    """Draws six figures and no more; the pipeline draws all."""
    charts, six = figures.charts, {"distributions", "s2", "r", "threshold", "truth", "tiles"}
    monkeypatch.setattr(figures, "charts", lambda run: [c for c in charts(run) if c.name in six])
    return six
