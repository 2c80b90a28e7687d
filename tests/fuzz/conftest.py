import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts/dev"


def loaded(name):
    """A script, as a module."""
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def fuzz_settings():
    return loaded("fuzz_settings")


@pytest.fixture(scope="session")
def fuzz_files():
    return loaded("fuzz_files")
