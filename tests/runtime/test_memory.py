import platform
import resource

import pytest
import torch

from sem2ct.runtime import memory
from sem2ct.runtime.refusal import Refusal

BIG = 64 * 2**20


def faults_of_a_second_block() -> int:
    """Pages the system must hand out for a block of the size of one just freed."""
    torch.zeros(BIG, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(BIG, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_freed_block_is_used_again_without_asking_the_system():
    assert memory.keep_freed()
    # The heap grows and closes its gaps first; without the setting every block is new.
    for _ in range(8):
        faults_of_a_second_block()
    # 64 MB are 16384 pages of 4 kB, or 32 of 2 MB where the system hands out large ones.
    assert faults_of_a_second_block() < 8


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not memory.keep_freed()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 TB"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
    ids=["numpy", "cpu", "gpu"],
)
def test_too_little_memory_is_said_in_one_line_with_what_to_lower(error):
    with (
        pytest.raises(Refusal, match=r"translate needs more memory.*batch_per_device"),
        memory.refusing_too_much("translate"),
    ):
        raise error


def test_another_error_is_not_taken_for_too_little_memory():
    with pytest.raises(RuntimeError, match="shapes"), memory.refusing_too_much("translate"):
        raise RuntimeError("shapes do not match")
