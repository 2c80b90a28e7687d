"""What no line of this program may do, looked for in its syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for top in ("src", "scripts") for path in (ROOT / top).rglob("*.py"))
SOURCES = [path for path in FILES if path.is_relative_to(ROOT / "src")]
# Bytes that this very process has pickled, for the processes it starts.
OWN_PICKLES = {"src/sem2ct/metrics/measure.py"}

FORBIDDEN = {
    "eval", "exec", "compile", "os.system", "os.popen", "marshal.loads", "marshal.load",
    "shelve.open", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.dump", "torch.hub.load",
    "joblib.load", "dill.load", "dill.loads", "pickle.load", "pickle.Unpickler", "cPickle.loads",
    "tempfile.mktemp", "webbrowser.open", "hydra.utils.instantiate", "instantiate",
}  # fmt: skip
SERVERS = ("http.server", "socketserver", "asyncio", "wsgiref", "flask", "aiohttp", "fastapi")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call with the name it goes by: eval, torch.load, path.open."""
    tree = ast.parse(path.read_text())
    return [(ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


def keyword(call: ast.Call, name: str) -> str:
    return next((ast.unparse(word.value) for word in call.keywords if word.arg == name), "")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_that_is_read_is_run(path):
    for name, call in calls(path):
        assert name not in FORBIDDEN, f"{name} in line {call.lineno}"
        assert name != "pickle.loads" or name_of(path) in OWN_PICKLES, f"line {call.lineno}"
        assert keyword(call, "shell") in ("", "False"), f"line {call.lineno}"
        assert keyword(call, "allow_pickle") in ("", "False"), f"line {call.lineno}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_torch_reads_weights_only(path):
    for name, call in calls(path):
        if name == "torch.load":
            assert keyword(call, "weights_only") == "True", f"line {call.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_archives_are_never_unpacked_to_disk(path):
    methods = {name.rpartition(".")[2] for name, _ in calls(path)}
    assert not {"extract", "extractall", "unpack_archive"} & methods - {own(path)}


def own(path: Path) -> str:
    """A stage calls the room that it is named after: sem_frames.extract."""
    return path.stem if path.parent.name == "stages" else ""


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_listens_on_the_network(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.startswith(SERVERS)], f"line {node.lineno}"
    listening = [name for name, _ in calls(path) if name.endswith((".bind", ".listen"))]
    assert not listening
