"""Where a result comes from: command, versions, commit, and digests of what was read."""

import hashlib
import importlib.metadata
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("sem2ct", "torch", "numpy", "scipy", "scikit-image", "tifffile", "zarr")


def record(inputs: Sequence[Path]) -> dict[str, Any]:
    """Describes this run, in plain values.

    Args:
        inputs: Files that are read, and digested here.

    Returns:
        Command, date, host, versions, commit and the inputs' fingerprints by path.
    """
    return {
        "command": shlex.join(sys.argv),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "inputs": {str(file): fingerprint(file) for file in inputs},
    }


def fingerprint(file: Path) -> dict[str, Any]:
    """Returns sha256, size and date of change of a file."""
    status = file.stat()
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"sha256": digest, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def inputs_of(recorded: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the inputs' fingerprints of a record; one that is damaged fits no file."""
    inputs = recorded.get("inputs")
    if not isinstance(inputs, Mapping):
        return {"the list of inputs": {}}
    return {file: one if isinstance(one, Mapping) else {} for file, one in inputs.items()}


def unchanged(file: Path, before: Mapping[str, Any]) -> bool:
    """Compares a file with its earlier fingerprint.

    It is read again only when its date has changed and its size has not.
    """
    status = file.stat()
    if status.st_size != before.get("bytes"):
        return False
    if status.st_mtime_ns == before.get("modified_ns"):
        return True
    return fingerprint(file)["sha256"] == before.get("sha256")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    """Returns the commit of the source tree, "+changes" behind it if it was touched since."""
    where = Path(__file__).parent

    def git(*what: str) -> str:
        # Without its own lock: whoever is killed here would leave it to the next git.
        command = ["git", "--no-optional-locks", "-C", str(where), *what]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()

    try:
        # A wheel lies in someone else's tree, if in any: ours tracks this very file.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        touched = git("status", "--porcelain", "--untracked-files=no")
        return git("describe", "--always", "--abbrev=40") + ("+changes" if touched else "")
    except (OSError, subprocess.CalledProcessError):
        return "none"
