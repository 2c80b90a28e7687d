"""Where benchmarks leave their figures: one JSON line each, with machine, versions, commit."""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

LEDGER = Path("outputs/bench.jsonl")


def processor() -> str:
    """The model of the CPU, or its kind where the system does not tell."""
    about = Path("/proc/cpuinfo")
    if about.is_file():
        for line in about.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """The commit of the checkout, with "+" when files differ from it."""
    told = [
        subprocess.run(
            ["git", "--no-optional-locks", *what],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        for what in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain"))
    ]
    return (told[0] or "unknown") + ("+" if told[1] else "")


def append(bench: str, figures: dict[str, Any], *, gpu: str = "none", **versions: str) -> None:
    """Adds a line to outputs/bench.jsonl, below the folder where one is.

    Args:
        bench: Name of the benchmark.
        figures: What was measured, plain values.
        gpu: Its name, if one was measured.
        **versions: Of the libraries that matter.
    """
    row = {
        "bench": bench,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{processor()}, {os.cpu_count()} cores, GPU: {gpu}",
        "commit": commit(),
        "versions": {"python": platform.python_version(), **versions},
        **figures,
    }
    LEDGER.parent.mkdir(exist_ok=True)
    with LEDGER.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")
