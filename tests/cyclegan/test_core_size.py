"""The core of a tile against counted bytes, and against memory that is made up."""

import importlib.util
import json
import sys

import pytest
import torch

from sem2ct.cyclegan import apply, core_size, generators
from sem2ct.cyclegan.core_size import Needs, largest, most_alive
from sem2ct.cyclegan.demand import Demand
from sem2ct.runtime.refusal import Refusal

CPU = torch.device("cpu")
NEEDS = Needs(per_pixel=1000.0, halo_px=10, slabs=5_000_000)
ONE = Demand(realisations=1, labels=False, statistics_only=False)


class Job:
    """What `core_size` looks at of a `VolumeTranslator`."""

    def __init__(self, *, width=8, side=300, halo_px=7):
        torch.manual_seed(0)
        config = {"network": "robust", "direction": "ct_to_sem", "scale": 4, "width": width}
        self.generator = generators.build(config | {"blocks": 1}).eval()
        self.region, self.halo_px, self.axes = (0, side, 0, side), halo_px, "xy"
        self.shape, self.precision, self.device = (8, 4 * side, 4 * side), "float32", CPU

    def slab_slices(self, chunk_px):
        return 4


def test_bytes_are_those_of_the_moment_when_most_tensors_are_alive():
    def action():
        one = torch.zeros(1000)  # 4000 bytes
        two = one.double()  # and 8000
        del one
        view = two[:10]
        three = two + view[0]  # 16000 with `two`, which the view shares
        del two, view
        return three.half()

    assert most_alive(action, CPU) == 16_000


def test_counting_bytes_does_not_wait_for_torch_to_import_its_compiler(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # importing it fails now
    specification = importlib.util.spec_from_file_location("fresh", core_size.__file__)
    fresh = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "fresh", fresh)
    specification.loader.exec_module(fresh)  # nothing is left of earlier countings
    assert fresh.most_alive(lambda: torch.zeros(10), CPU) == 40


def test_tensors_that_were_there_before_and_what_is_done_in_place_cost_nothing():
    before = torch.ones(500)
    assert most_alive(lambda: before.mul_(2).add_(1), CPU) <= 500 * 4
    assert most_alive(lambda: None, CPU) == 0


def test_a_pixel_of_a_small_tile_takes_what_a_pixel_of_a_large_one_takes():
    job = Job()
    side = 96
    tile, out = torch.zeros(side, side), torch.empty(4 * side, 4 * side, dtype=torch.uint8)
    how = {"z": 1, "core_px": side, "halo_px": 0, "noise_key": 0, "device": "cpu", "out": out}
    large = most_alive(lambda: apply.translate_slice(job.generator, tile, **how), CPU)
    assert core_size.bytes_per_pixel(job) == pytest.approx(large / side**2, rel=0.05)
    # At full resolution alone: features before and after the last noise, float32.
    assert core_size.bytes_per_pixel(job) > 2 * 4 * 4**2 * 4


def test_wider_networks_take_more():
    assert core_size.bytes_per_pixel(Job(width=32)) > 1.2 * core_size.bytes_per_pixel(Job())


def test_the_core_is_the_largest_multiple_of_sixteen_within_the_room():
    # 5 MB of slabs and 1000 * (c + 20)^2: 96 px take 18.456 MB, 112 px 22.424 MB.
    assert largest(NEEDS, 18_456_000, most_px=1000) == 96
    assert largest(NEEDS, 18_455_999, most_px=1000) == 80
    assert largest(NEEDS, 22_424_000, most_px=1000) == 112


def test_more_memory_never_makes_a_smaller_core_and_none_exceeds_the_room():
    found = [largest(NEEDS, room, most_px=5000) for room in range(10**6, 4 * 10**8, 1_234_567)]
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] == 512
    for core, room in zip(found, range(10**6, 4 * 10**8, 1_234_567), strict=True):
        assert core == 0 or NEEDS.bytes_of(core) <= room


@pytest.mark.parametrize(("side", "core"), [(5, 16), (16, 16), (17, 32), (280, 288), (900, 512)])
def test_the_core_is_no_larger_than_the_slice_needs(side, core):
    assert largest(NEEDS, 1e12, most_px=side) == core


def settled(monkeypatch, job, folder, free, **how):
    asked = {"chunk_px": 64, "devices": 1, "keep": True} | how
    monkeypatch.setattr(core_size, "free_bytes", lambda device: free)
    monkeypatch.setattr(core_size, "replace", lambda job, **changed: changed)
    return core_size.settled(job, ONE, folder, **asked)


def needs_of(job):
    per_pixel = core_size.UNCOUNTED * core_size.bytes_per_pixel(job)
    # Two slabs of 4 slices, and what is packed of them.
    return Needs(per_pixel, job.halo_px, 5 * 4 * 1200 * 1200)


def test_half_of_the_free_memory_is_shared_by_the_processes(monkeypatch, tmp_path):
    job = Job()
    free = 2 * needs_of(job).bytes_of(64)
    asked = {"keep": False}
    assert settled(monkeypatch, job, tmp_path, free, **asked)["core_px"] == 64
    assert settled(monkeypatch, job, tmp_path, free - 4, **asked)["core_px"] == 48
    assert settled(monkeypatch, job, tmp_path, 3 * free, devices=3, **asked)["core_px"] == 64
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_keeps_its_core_whatever_is_free_by_then(monkeypatch, tmp_path):
    job = Job()
    first = settled(monkeypatch, job, tmp_path, 2 * needs_of(job).bytes_of(64))
    assert json.loads((tmp_path / core_size.FILE).read_text()) == {"core_px": 64}
    again = {"core_px": 64, "core_because": "as when this run began"}
    assert settled(monkeypatch, job, tmp_path, 10**12) == again
    assert first["core_because"].endswith("GB that are free on cpu")


def test_memory_for_no_tile_at_all_is_refused_with_what_to_set(monkeypatch, tmp_path):
    job = Job()
    free = 2 * needs_of(job).bytes_of(16) - 4
    with pytest.raises(Refusal, match=r"core_px=auto: the smallest tiles, .* set core_px=16"):
        settled(monkeypatch, job, tmp_path, free)
    assert not (tmp_path / core_size.FILE).exists()


def test_on_a_cpu_no_tile_is_larger_than_is_worth_its_memory(monkeypatch, tmp_path):
    job = Job(side=2000)
    assert settled(monkeypatch, job, tmp_path, 10**13)["core_px"] == core_size.WORTH_ON_CPU_PX
