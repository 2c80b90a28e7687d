"""The rules of the house that no other tool checks."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for top in ("src", "tests", "scripts") for path in (ROOT / top).rglob("*.py"))
SOURCES = [path for path in FILES if path.is_relative_to(ROOT / "src")]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_function_fits_a_screen(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name != "step":
            assert node.end_lineno - node.lineno < 60, f"{node.name} in {name_of(path)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_drawer_is_named_after_nothing(path):
    drawers = {"utils", "util", "misc", "helpers", "helper", "common"}
    assert not drawers & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_command_line_prints(path):
    if path.name != "cli.py":
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        assert "print" not in {getattr(call.func, "id", "") for call in calls}


def test_stages_are_wiring_only():
    for path in (ROOT / "src/sem2ct/stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 120, path.name


def test_a_package_header_is_a_door_plate():
    for path in (ROOT / "src").rglob("__init__.py"):
        assert len(path.read_text().splitlines()) == 1, name_of(path)


def test_help_answers_without_torch_and_hydra():
    code = (
        "import sys\n"
        "from sem2ct import cli\n"
        "try:\n    cli.main(['--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'hydra', 'omegaconf'} & set(sys.modules), 'imported too early'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert "train-cyclegan" in done.stdout


def test_torchvision_is_imported_nowhere():
    assert not [path for path in SOURCES if "import torchvision" in path.read_text()]
