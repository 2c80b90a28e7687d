"""A machine for pickles that builds plain data and can do nothing else.

A pickle is a program for a small stack machine, and its calls are what makes a stranger's
file dangerous.  Here the program is not run by `pickle`: the instructions that build plain
values are carried out below, and for a call the *name* of the function is looked up in a
table that the reader of the file brings along.  A name outside the table is refused before
anything is made of it, and no module is ever imported because a file says so.

Source: Python's `pickletools`, which describes every instruction.
"""

import io
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class FaultError(Exception):
    """What is wrong with the file, as the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class Name:
    """A function or class that the file refers to: its name, and nothing more."""

    text: str


@dataclass(frozen=True)
class NumberType:
    """The type of a NumPy number: the one thing whose attributes a file may set.

    It sets the order of bytes, which is checked and not stored.
    """

    kind: str


class Machine:
    """Carries out the instructions of one pickle, as far as they build data."""

    def __init__(
        self,
        allowed: dict[str, Callable[..., Any] | None],
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        """Takes the constructors by name, and what stands for a persistent id, if anything.

        A name without a constructor may be referred to, not called.
        """
        self._allowed = allowed
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: io.BytesIO) -> Any:
        """Reads up to STOP; the stream then stands behind it."""
        try:
            for instruction, argument, _ in pickletools.genops(stream):
                if instruction.name == "STOP":
                    return self._pop()
                self._do(instruction.name, argument)
        except (ValueError, IndexError, KeyError, struct.error, OverflowError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise FaultError(f"is no whole pickle ({reason})") from error
        raise AssertionError("genops ends with STOP or an error")

    def _do(self, name: str, argument: Any) -> None:
        if name in CONSTANTS:
            self._stack.append(CONSTANTS[name])
        elif name in LITERALS:
            self._stack.append(argument)
        elif name in EMPTY:
            self._stack.append(EMPTY[name]())
        elif name in TUPLES:
            self._tuple(TUPLES[name])
        elif name in METHODS:
            METHODS[name](self, argument)
        elif name not in IDLE:
            raise FaultError(f"uses the instruction {name}, which no such file needs")

    def _pop(self) -> Any:
        if not self._stack:
            raise FaultError("is no whole pickle (it takes from an empty stack)")
        return self._stack.pop()

    def _until_mark(self) -> list[Any]:
        if not self._marked:
            raise FaultError("is no whole pickle (a mark is missing)")
        taken, self._stack = self._stack, self._marked.pop()
        return taken

    def _mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _memoize(self, argument: Any) -> None:
        if not self._stack:
            raise FaultError("is no whole pickle (it notes what is not there)")
        place = len(self._memo) if argument is None else argument
        self._memo[place] = self._stack[-1]

    def _get(self, argument: Any) -> None:
        self._stack.append(self._memo[argument])

    def _tuple(self, length: int) -> None:
        self._stack.append(tuple([self._pop() for _ in range(length)][::-1]))

    def _marked_tuple(self, _: Any) -> None:
        items = self._until_mark()
        self._stack.append(tuple(items))

    def _append(self, _: Any) -> None:
        self._extend([self._pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._until_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise FaultError(f"appends to {said(target)}")
        target.extend(items)

    def _additems(self, _: Any) -> None:
        items = self._until_mark()
        target = self._stack[-1]
        if type(target) is not set or not all(type(item) in (str, int) for item in items):
            raise FaultError(f"adds to {said(target)}, or what is no word to a set")
        target.update(items)

    def _setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _setitems(self, _: Any) -> None:
        self._set(self._until_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise FaultError(f"sets items of {said(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing nested tuples can be made to take for ever.
            if type(key) not in (str, int):
                raise FaultError(f"has {said(key)} as a key")
            target[key] = value

    def _global(self, argument: Any) -> None:
        # The module's name has no spaces: pickletools joins the two with one.
        self._refer(*argument.split(" ", 1))

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise FaultError(f"refers to {said(module)} by {said(name)}")
        self._refer(module, name)

    def _refer(self, module: str, name: str) -> None:
        text = f"{module}.{name}"
        if text not in self._allowed or "." in name:
            raise FaultError(
                f"refers to {text[:120]!a}, which is no constructor of tensors or networks"
            )
        self._stack.append(Name(text))

    def _reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if type(function) is not Name or type(arguments) is not tuple:
            raise FaultError(f"calls {said(function)} with {said(arguments)}")
        make = self._allowed[function.text]
        if make is None:
            raise FaultError(f"calls {function.text}, which may only be named")
        try:
            self._stack.append(make(*arguments))
        except TypeError as error:
            raise FaultError(f"calls {function.text} with arguments that do not fit") from error

    def _build(self, _: Any) -> None:
        state, target = self._pop(), self._stack[-1]
        if type(target) is not NumberType or type(state) is not tuple:
            raise FaultError(f"sets the attributes of {said(target)}")
        if state[1:2] not in (("<",), ("|",)):
            raise FaultError("holds NumPy numbers with the highest byte first")

    def _persist(self, _: Any) -> None:
        if self._persistent is None:
            raise FaultError("refers to objects outside itself (a persistent id)")
        self._stack.append(self._persistent(self._pop()))


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IDLE = {"PROTO", "FRAME"}
METHODS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine._mark,
    "MEMOIZE": Machine._memoize,
    "BINPUT": Machine._memoize,
    "LONG_BINPUT": Machine._memoize,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "TUPLE": Machine._marked_tuple,
    "APPEND": Machine._append,
    "APPENDS": Machine._appends,
    "ADDITEMS": Machine._additems,
    "SETITEM": Machine._setitem,
    "SETITEMS": Machine._setitems,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persist,
}


def said(value: Any) -> str:
    """What a value is, in a message; its content is not shown."""
    return value.text if isinstance(value, Name) else f"a {type(value).__name__.lstrip('_')}"
