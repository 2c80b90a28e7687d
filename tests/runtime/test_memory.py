import os
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


GB = 2**30


def told(root, *, available_kb=8 * 2**20, groups="", **files):
    """Writes what Linux would say, under another root."""
    (root / "proc/self").mkdir(parents=True)
    rows = f"MemTotal: 99 kB\nMemFree: 5 kB\nMemAvailable: {available_kb} kB\n"
    (root / "proc/meminfo").write_text(rows)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return memory.free_bytes(root)


def test_free_is_what_the_machine_calls_available(tmp_path):
    assert told(tmp_path) == 8 * GB


def test_a_container_allows_its_limit_less_what_it_holds_files_apart(tmp_path):
    inner = {"a/b/memory.max": "max", "a/b/memory.current": "5", "a/b/memory.stat": ""}
    outer = {"a/memory.max": str(3 * GB), "a/memory.current": str(2 * GB)}
    outer["a/memory.stat"] = f"anon 7\ninactive_file {GB // 2}\n"
    assert told(tmp_path, groups="0::/a/b\n", **inner, **outer) == 3 * GB // 2


def test_so_does_a_container_of_the_first_version(tmp_path):
    files = {"memory.limit_in_bytes": str(2 * GB), "memory.usage_in_bytes": str(GB)}
    files["memory.stat"] = "total_inactive_file 0\n"
    files = {f"memory/{name}": text for name, text in files.items()}
    assert told(tmp_path, groups="9:cpu:/x\n4:memory:/elsewhere\n", **files) == GB


def test_without_such_files_half_of_the_memory_counts_as_free(tmp_path):
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.free_bytes(tmp_path) == pages // 2


def test_here_some_memory_is_free_and_no_more_than_there_is():
    assert 0 < memory.free_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
