"""Reading network pickles: what is good comes through, and nothing in them is ever run."""

import io
import os
import pickle
import random
import struct
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
import torch

from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import pickles


@pytest.fixture
def good(foreign, tmp_path):
    """A whole snapshot, whose source text would leave a mark if it were run."""
    source = f"open({str(tmp_path / 'mark')!r}, 'w')"
    return foreign.write(tmp_path / "good.pkl", foreign.content(*foreign.networks(), source))


def read(tmp_path, content):
    path = tmp_path / "some.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=4))
    return pickles.read(path)


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_a_snapshot_comes_as_data(good, tmp_path):
    content = pickles.read(good)
    assert list(content) == ["training_set_kwargs", "augment_pipe", "G", "D", "G_ema"]
    assert content["training_set_kwargs"] == {"path": "tiles.zip"}
    assert isinstance(content["D"], pickles.Saved)
    assert content["G"].state["_init_kwargs"]["z_dim"] == 5
    assert "module_src" not in content["G"].state
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_tensors_of_every_kind_come_through(tmp_path, protocol):
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    tensors = {
        "whole": base,
        "part": base[1:3, ::2],
        "turned": base.t(),
        "number": torch.tensor(2.5),
        "half": torch.randn(3).half(),
        "counts": torch.arange(5),
        "small": torch.arange(5, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "learned": torch.nn.Parameter(torch.randn(2)),
    }
    found = read(tmp_path, pickle.dumps(tensors, protocol=protocol))
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_come_through(tmp_path, protocol):
    plain = {"a": [1, -2, 70000, 2**70, 0.5], "b": (None, True, False, "ä"), "c": OrderedDict()}
    plain |= {
        "d": set(),
        "e": {"x", "y"},
        "f": np.float64(1.5),
        "g": (1, 2, 3, 4),
        "h": np.int32(7),
    }
    assert read(tmp_path, pickle.dumps(plain, protocol=protocol)) == plain


def test_the_program_stays_as_it_is_when_a_file_is_read(good):
    before = {name: id(value) for name, value in pickles.ALLOWED.items()}
    loaded = set(__import__("sys").modules)
    pickles.read(good)
    assert {name: id(value) for name, value in pickles.ALLOWED.items()} == before
    assert set(__import__("sys").modules) == loaded


def stack_global(module, name):
    """The instructions that refer to a name and leave it on the stack."""
    words = [word.encode() for word in (module, name)]
    return b"".join(b"\x8c" + bytes([len(word)]) + word for word in words) + b"\x93"


def calls(*reference):
    """A pickle that calls what it refers to with a command for the shell."""
    command = b"touch " + os.environ["SEM2CT_MARK"].encode()
    text = b"X" + struct.pack("<I", len(command)) + command
    return b"\x80\x04" + stack_global(*reference) + text + b"\x85R."


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """A file that appears if anything is run."""
    monkeypatch.setenv("SEM2CT_MARK", str(tmp_path / "mark"))
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "reference",
    [
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "check_call"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("copyreg", "_reconstructor"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("torch", "load"),
        ("torch.serialization", "load"),
        ("numpy", "load"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("pickle", "loads"),
        ("runpy", "run_path"),
        ("sem2ct.stylegan.pickles", "read"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "_utils._rebuild_tensor_v2"),
        ("collections", "OrderedDict.__init__"),
    ],
    ids=".".join,
)
def test_a_name_outside_the_table_is_refused_by_name(tmp_path, mark, reference):
    with pytest.raises(Refusal, match=f"refers to '{'.'.join(reference)}'.*nothing in this file"):
        read(tmp_path, calls(*reference))
    old = f"\x80\x02c{reference[0]}\n{reference[1]}\n(tR.".encode("latin-1")
    with pytest.raises(Refusal, match=f"refers to '{'.'.join(reference)}'"):
        read(tmp_path, old)


def test_a_name_is_refused_though_it_is_never_called(tmp_path):
    with pytest.raises(Refusal, match=r"refers to 'os\.system'"):
        read(tmp_path, b"\x80\x04" + stack_global("os", "system") + b"0N.")


@pytest.mark.parametrize("place", ["value", "buffer", "source", "argument", "key", "storage"])
def test_a_call_is_found_wherever_it_is_planted(foreign, tmp_path, mark, place):
    planted = Calls(os.system, f"touch {mark}")
    content = foreign.content(*foreign.networks())
    if place == "value":
        content["training_set_kwargs"]["path"] = planted
    elif place == "buffer":
        content["G"].state["_modules"]["mapping"].state["_buffers"]["w_avg"] = planted
    elif place == "source":
        content["G"].meta["module_src"] = planted
    elif place == "argument":
        content["D"].state["_init_kwargs"]["c_dim"] = planted
    elif place == "key":
        content = {planted: 1}
    else:
        inner = pickle.dumps(planted, protocol=2)
        content["G"] = Calls(torch.storage._load_from_bytes, inner)
    with pytest.raises(Refusal, match=r"refers to '(posix|nt)\.system'"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x02ios\nsystem\n.", "INST"),
        (b"\x80\x02(" + stack_global("collections", "OrderedDict") + b"o.", "OBJ"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"Pnumber\n.", "PERSID"),
        (b"\x80\x02K\x01Q.", "persistent id"),
        (b"\x80\x04}}b.", "sets the attributes of a dict"),
        (
            b"\x80\x04" + stack_global("collections", "OrderedDict") + b"}b.",
            "sets the attributes of collections.OrderedDict",
        ),
        (
            b"\x80\x04" + stack_global("collections", "OrderedDict") + b"}}\x92.",
            "NEWOBJ_EX",
        ),
        (b"\x80\x04K\x01)R.", "calls a int"),
        (b"\x80\x04" + stack_global("numpy", "dtype") + b"\x8c\x01O\x85R.", "of the type a str"),
        (b"\x80\x04}K\x01\x85K\x02s.", "has a tuple as a key"),
        (b"\x80\x04)K\x01a.", "appends to a tuple"),
        (b"\x80\x04N(K\x01K\x02u.", "sets items of a NoneType"),
        (b"\x80\x04h\x05.", "no whole pickle"),
        (b"\x80\x04e.", "a mark is missing"),
        (b"\x80\x04R.", "empty stack"),
        (b"\x80\x04\x94.", "what is not there"),
        (b"", "no whole pickle"),
        (b"\x89PNG\r\n\x1a\n", "PERSID"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"short.", "no whole pickle"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_other_instruction_is_refused(tmp_path, content, said):
    with pytest.raises(Refusal, match=said):
        read(tmp_path, content)


def test_attributes_cannot_be_set_through_a_network(foreign, tmp_path):
    state = pickle.dumps({"__setstate__": 1}, protocol=4)[2:-1]
    with pytest.raises(Refusal, match="sets the attributes of a Saved"):
        read(tmp_path, pickle.dumps(foreign.Module("G", ""), protocol=4)[:-1] + state + b"b.")


def numbers(count, declared):
    """A storage of `count` numbers that says it has `declared`."""
    storage = io.BytesIO()
    torch.save(torch.zeros(count).storage(), storage, _use_new_zipfile_serialization=False)
    honest = struct.pack("<I", count)
    content = storage.getvalue()
    assert content.count(b"J" + honest) == 1
    content = content.replace(b"J" + honest, b"\x8a\x08" + struct.pack("<q", declared))
    return content.replace(struct.pack("<q", count), struct.pack("<q", declared))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("declared", [2**50, 70001, 69999])
def test_more_numbers_than_there_are_take_no_memory(tmp_path, declared):
    tracemalloc.start()
    with pytest.raises(Refusal, match=f"declares {declared} numbers of 4 bytes where 280000 bytes"):
        read(tmp_path, Calls(torch.storage._load_from_bytes, numbers(70000, declared)))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    ("first", "shape", "stride", "said"),
    [
        (0, (7,), (1,), "shape that 6 numbers do not have"),
        (0, (6, 6), (0, 1), "36 numbers from 6"),
        (4, (3,), (1,), "3 numbers from 6"),
        (0, (3,), (3,), "3 numbers from 6"),
        (-1, (2,), (1,), "shape that"),
        (0, (2,), (-1,), "shape that"),
        (0, (0, 2**70), (1, 1), "shape that"),
        (0, (2, 3), (3,), "shape that"),
        (0, (1,) * 9, (1,) * 9, "shape that"),
        (0, ("6",), (1,), "shape that"),
        (0, (True,), (1,), "shape that"),
    ],
)
def test_a_tensor_stays_within_its_numbers(tmp_path, first, shape, stride, said):
    def rebuilt(*arguments):
        return Calls(torch._utils._rebuild_tensor_v2, *arguments)

    storage = torch.arange(6.0).storage()
    assert read(tmp_path, rebuilt(storage, 1, (2, 2), (2, 1), False, {})).tolist() == [
        [1, 2],
        [3, 4],
    ]
    with pytest.raises(Refusal, match=said):
        read(tmp_path, rebuilt(storage, first, shape, stride, False, {}))


def test_a_file_of_torch_save_is_refused_by_name(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"G": torch.zeros(2)}, path)
    with pytest.raises(Refusal, match=r"is a zip archive of torch\.save"):
        pickles.read(path)
    torch.save({"G": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(Refusal, match=r"is a file of torch\.save"):
        pickles.read(path)
    with pytest.raises(Refusal, match="could not be read"):
        pickles.read(tmp_path / "absent.pkl")


def test_a_file_cut_short_is_refused_wherever_it_ends(good, tmp_path):
    whole = good.read_bytes()
    for length in range(0, len(whole), len(whole) // 40):
        with pytest.raises(Refusal, match="no whole pickle"):
            read(tmp_path, whole[:length])


def test_a_damaged_file_is_read_or_refused_and_nothing_else(good, tmp_path):
    whole, chance = good.read_bytes(), random.Random(3)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[chance.randrange(3000)] = chance.randrange(256)
        try:
            read(tmp_path, bytes(damaged))
        except Refusal:
            refused += 1
    assert refused > 50
    assert not (tmp_path / "mark").exists()
