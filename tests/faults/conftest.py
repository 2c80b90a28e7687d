"""Disks that are full or cannot be written, for real: a tmpfs where one may be mounted.

Elsewhere the system's own limit of a file's size and the folder's permissions stand for
them; root, who may mount, is not bound by permissions.
"""

import os
import resource
import subprocess

import pytest

DISK_BYTES = 256 * 1024
FULL = r"could not be written: (no space left on device|file too large); make room"


@pytest.fixture
def mounted(tmp_path):
    """A disk of `DISK_BYTES` of its own, or None where it cannot be had."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    yield place if done else None
    if done:
        subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=True)


@pytest.fixture
def small_disk(mounted, tmp_path):
    """A folder that takes less than 256 KiB."""
    if mounted is not None:
        yield mounted
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_BYTES, before[1]))
    yield tmp_path / "disk"
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def make_read_only(mounted, tmp_path):
    """`make_read_only()` lets nothing more be written into the folder that it returns."""
    place = tmp_path / "disk"

    def lock():
        if mounted is not None:
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            return
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere, and may not mount here")
        for folder in [place, *(path for path in place.rglob("*") if path.is_dir())]:
            folder.chmod(0o500)

    yield place, lock
    for folder in [place, *(path for path in place.rglob("*") if path.is_dir())]:
        if mounted is None:
            folder.chmod(0o700)


@pytest.fixture
def full():
    """What a full disk makes the program say."""
    return FULL
