"""Says which process keeps the others waiting.

Every process counts the exchanges it has entered, and a thread writes the count into
the store that the processes met at.  Whoever waits long in an exchange finds there who
has entered fewer, and whether that process still gives a sign of life.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Protocol

BEAT_S = 10.0
PATIENCE_S = 600.0
"""Waiting this long is told, again and again; a process silent for half of it is given up."""
EVERYONE = "all have come; something is wrong between them"


class Store(Protocol):
    """What is needed of torch's stores."""

    def set(self, key: str, value: str) -> object:
        """Writes a value."""
        ...

    def get(self, key: str) -> bytes:
        """Reads a value."""
        ...

    def check(self, keys: list[str]) -> bool:
        """Tells whether all are there."""
        ...


class _Here:
    """Exchanges of this process."""

    entered = 0
    since = 0.0  # of the one that it is in; 0 outside


@contextlib.contextmanager
def exchange() -> Iterator[None]:
    """Marks what returns when all processes have come; also a decorator."""
    _Here.entered += 1
    _Here.since = time.monotonic()
    try:
        yield
    finally:
        _Here.since = 0.0


class Presence:
    """Writes down this process's exchanges, and looks for those who lag behind.

    Args:
        store: That all processes reach.
        rank: Number of this process.
        ranks: How many there are.
        beat_s: Seconds between two entries.
        patience_s: See `PATIENCE_S`.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        ranks: int,
        *,
        beat_s: float = BEAT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Makes the first entry."""
        self._store, self._rank, self._ranks = store, rank, ranks
        self._beat_s, self._patience_s = beat_s, patience_s
        self._beats = 0
        self._seen: dict[int, tuple[str, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="presence", daemon=True)

    def __enter__(self) -> "Presence":
        """Starts the thread."""
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self._ended.set()
        self._thread.join(1.0)

    def missing(self) -> dict[str, float]:
        """Finds who has entered fewer exchanges than this process.

        Returns:
            Their names, and the seconds since their last sign of life was first read.
        """
        found = {}
        for rank in range(self._ranks):
            entered, who, silent_s = self._entry(rank)
            if entered < _Here.entered:
                found[f"rank {rank} of {self._ranks} ({who})"] = silent_s
        return found

    def _watch(self) -> None:
        next_word = self._patience_s
        while not self._ended.wait(self._beat_s):
            since = _Here.since
            waited = time.monotonic() - since if since else 0.0
            if waited < self._beat_s:
                next_word = self._patience_s
            try:
                self._write()
                missing = self.missing() if waited else {}
            except RuntimeError:
                missing = {f"rank 0 of {self._ranks}, which keeps the list,": self._patience_s}
            if waited >= next_word:
                next_word += self._patience_s
                self._tell(waited, missing)

    def _tell(self, waited_s: float, missing: dict[str, float]) -> None:
        """Says for whom this process waits, and gives up those who are gone."""
        gone = [name for name, silent_s in missing.items() if silent_s >= self._patience_s / 2]
        signs = {name: "gives no sign of life" if name in gone else "is busy" for name in missing}
        said = "; ".join(f"{name} {sign}" for name, sign in signs.items())
        line = f"sem2ct: rank {self._rank} has waited for {waited_s:.0f} s: {said or EVERYONE}\n"
        # Not through the log: the other thread may hold it.
        os.write(2, line.encode())
        if gone:
            # The waiting thread is deep in the exchange and hears nothing.
            os._exit(1)

    def _write(self) -> None:
        self._beats += 1
        who = f"host {socket.gethostname()}, process {os.getpid()}"
        self._store.set(f"{self._rank}", f"{self._beats} {_Here.entered} {who}")

    def _entry(self, rank: int) -> tuple[int, str, float]:
        """Count and name of a rank (-1 if it never came), and seconds without a new entry."""
        written = f"{rank}" if self._store.check([f"{rank}"]) else ""
        text = self._store.get(written).decode() if written else "0 -1 not here yet"
        beat, entered, who = text.split(" ", 2)
        now = time.monotonic()
        before, first_read = self._seen.get(rank, ("", now))
        first_read = first_read if before == beat else now
        self._seen[rank] = (beat, first_read)
        return int(entered), who, now - first_read
