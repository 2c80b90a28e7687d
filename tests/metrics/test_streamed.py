"""A volume seen slice by slice against the same volume counted at once, and by hand."""

import itertools
import json

import numpy as np
import pytest

from sem2ct.metrics import chords, correlation, streamed, volume_facts
from sem2ct.metrics.streamed import PoreStream, measure, pair_hits
from sem2ct.runtime.refusal import Refusal

SHAPE = (9, 14, 17)


def blobs(seed=3, shape=SHAPE, share=0.45):
    """Pores a few voxels long, unlike along the three axes."""
    noise = np.random.default_rng(seed).random(shape)
    for axis, width in enumerate((3, 2, 1)):
        noise = sum(np.roll(noise, k, axis) for k in range(width))
    return noise < np.quantile(noise, share)


def field(shape=SHAPE):
    """A corner is outside, and in two slices in the middle one side too."""
    z, y, x = np.indices(shape)
    return (x + y > 6) & ((z < 4) | (z > 5) | (x < 9))


def streamed_over(pores, inside, reach):
    stream = PoreStream(pores.shape, reach_px=reach)
    for one, where in zip(pores, inside, strict=True):
        stream.add(one, where)
    return stream


def facts_of(pores, reach, bin_px):
    counts = streamed_over(pores, np.ones(pores.shape, bool), reach).counts()
    return volume_facts.facts(counts, bin_px=bin_px)


def chords_by_hand(pores, inside, axis):
    """Lengths of the runs of pore between two grains, one line after the other."""
    lines = np.moveaxis(np.where(inside, pores.astype(int), 2), axis, -1).reshape(
        -1, pores.shape[axis]
    )
    found = []
    for states in lines.tolist():
        runs = [(state, len(list(run))) for state, run in itertools.groupby(states)]
        for before, (state, length), after in zip(runs, runs[1:], runs[2:], strict=False):
            if (before[0], state, after[0]) == (0, 1, 0):
                found.append(length)
    return np.bincount(found, minlength=2)


def test_in_a_full_frame_the_integers_are_those_of_the_whole_volume():
    pores, full = blobs(), np.ones(SHAPE, bool)
    counts = streamed_over(pores, full, 6).counts()
    hits, pairs = correlation.axis_counts(pores, 6)
    assert counts["hits"][0, 6:].tolist() == hits[0].tolist()
    assert counts["hits"][:, 6].tolist() == hits[1].tolist()
    assert counts["z_hits"].tolist() == hits[2].tolist()
    assert counts["pairs"][0, 6:].tolist() == pairs[0].tolist()
    assert counts["pairs"][:, 6].tolist() == pairs[1].tolist()
    assert counts["z_pairs"].tolist() == pairs[2].tolist()
    both = [correlation.pair_counts(one, 6) for one in pores]
    assert np.array_equal(counts["hits"], sum(one[0] for one in both))
    assert np.array_equal(counts["pairs"], sum(one[1] for one in both))
    for name in "xyz":
        lengths = chords.chord_lengths(pores, along=name)
        assert counts[f"chords_{name}"].tolist() == np.bincount(lengths, minlength=2).tolist()


def test_what_lies_outside_is_in_no_pair_and_ends_no_chord():
    pores, inside = blobs(), field()
    assert 0.05 < (pores & ~inside).mean() < 0.3  # outside there are pores that must not count
    counts = streamed_over(pores, inside, 5).counts()
    held = pores & inside
    hits, _ = correlation.axis_counts(held, 5)
    pairs, _ = correlation.axis_counts(inside, 5)
    assert counts["z_hits"].tolist() == hits[2].tolist()
    assert counts["z_pairs"].tolist() == pairs[2].tolist()
    assert counts["hits"][0, 5:].tolist() == hits[0].tolist()
    assert counts["pairs"][:, 5].tolist() == pairs[1].tolist()
    assert counts["pore_y"].tolist() == held.sum((0, 2)).tolist()
    for axis, name in enumerate("zyx"):
        assert counts[f"chords_{name}"].tolist() == chords_by_hand(pores, inside, axis).tolist()


@pytest.mark.parametrize("height", [16, 17, 24, 31])
def test_bands_of_an_image_count_what_the_image_does(monkeypatch, height):
    image = blobs(shape=(1, height, 23))[0]
    expected = correlation.pair_counts(image, 4)[0]
    monkeypatch.setattr(streamed, "_BAND_PIXELS", 1)
    assert np.array_equal(pair_hits(image, 4), expected)


def test_a_stream_that_was_stopped_goes_on_and_ends_with_the_same_integers(tmp_path):
    pores, inside = blobs(), field()
    slabs = [(0, 4), (4, 4), (8, 1)]
    shown = []

    def slices_of(first, count):
        shown.append(first)
        if len(shown) == 2:
            raise KeyboardInterrupt
        return zip(pores[first : first + count], inside[first : first + count], strict=True)

    with pytest.raises(KeyboardInterrupt):
        measure(PoreStream(SHAPE, reach_px=6), slabs, slices_of, kept_in=tmp_path / "kept.npz")
    again = PoreStream(SHAPE, reach_px=6)
    measure(again, slabs, slices_of, kept_in=tmp_path / "kept.npz")
    assert shown == [0, 4, 4, 8]
    whole = streamed_over(pores, inside, 6).counts()
    assert all(np.array_equal(values, whole[name]) for name, values in again.counts().items())


def test_the_facts_are_those_of_stripes_known_on_paper():
    # Along x 3 pores and 5 grains in turn, alike along y; every other slice is all grain.
    plane = np.tile(np.arange(40) % 8 < 3, (20, 1))
    pores = np.stack([plane, ~plane & False] * 6)
    told = facts_of(pores, 8, bin_px=2)
    assert told["porosity"] == pytest.approx(3 / 16)
    assert told["x"]["mean_chord_px"] == 3
    assert told["z"]["mean_chord_px"] == 1
    assert told["x"]["s2"][8] == pytest.approx(3 / 16)
    assert told["y"]["s2"] == pytest.approx([3 / 16] * 9)
    assert told["z"]["s2"][:3] == pytest.approx([3 / 16, 0, 3 / 16])
    assert told["z"]["porosity"] == pytest.approx([3 / 16] * 6)
    assert told["x"]["porosity"][:4] == pytest.approx([1 / 2, 1 / 4, 0, 0])
    assert np.isnan(told["y"]["mean_chord_px"])
    json.dumps(told)
    assert "porosity 0.1875" in volume_facts.line(told)


def test_an_even_medium_has_the_same_lengths_along_all_axes_and_a_stretched_one_has_not():
    ratio = {}
    for name, widths in (("even", (3, 3, 3)), ("stretched", (6, 3, 3))):
        noise = np.random.default_rng(1).random((48, 48, 48))
        for axis, width in enumerate(widths):
            noise = sum(np.roll(noise, k, axis) for k in range(width))
        pores = noise < np.median(noise)
        told = facts_of(pores, 12, bin_px=8)
        ratio[name] = told["z_over_xy"]["one_over_e_length"]
    assert ratio["even"] == pytest.approx(1, abs=0.05)
    assert ratio["stretched"] > 1.5


def test_one_slice_has_no_lag_along_z():
    pores = blobs(shape=(1, 20, 24))
    told = facts_of(pores, 30, bin_px=4)
    assert len(told["z"]["s2"]) == 1
    assert len(told["x"]["s2"]) == 20
    with pytest.raises(Refusal, match="reach_px=20, but an image of shape"):
        pair_hits(pores[0], 20)


@pytest.mark.parametrize("cuts", [(0, 9), (0, 2, 5, 9), tuple(range(10))])
def test_slabs_counted_elsewhere_add_up_to_the_whole(cuts):
    pores, inside = blobs(), field()
    whole, stream = (PoreStream(SHAPE, reach_px=6) for _ in range(2))
    for one, where in zip(pores, inside, strict=True):
        whole.add(one, where)
    counters = [PoreStream(SHAPE, reach_px=6) for _ in range(2)]
    for k, (first, last) in enumerate(itertools.pairwise(cuts)):
        images = zip(pores[first:last], inside[first:last], strict=True)
        stream.take(counters[k % 2].count(first, images))
    assert stream.seen == whole.seen == 9
    for name, values in whole.state().items():
        assert np.array_equal(stream.state()[name], values), name
