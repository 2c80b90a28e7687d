import numpy as np
import pytest
import torch

from sem2ct.data.intensity import (
    Window,
    choose_window,
    collapse_channels,
    field_of_view,
    from_network,
    is_field_of_view,
    to_network,
)
from sem2ct.runtime.refusal import Refusal


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_a_window_is_stretched_rounded_and_clipped(dtype):
    # 255 / (110 - 10) = 2.55 per level: 11 becomes 2.55, 12 becomes 5.1, 60 becomes 127.5.
    grey = np.array([0, 10, 11, 12, 109, 110, 120], dtype=dtype)
    assert Window(10, 110).to_uint8(grey).tolist() == [0, 0, 3, 5, 252, 255, 255]


def test_a_window_survives_json():
    assert Window.from_dict(Window(1.5, 7.0).as_dict()) == Window(1.5, 7.0)


def test_a_window_is_chosen_at_the_percentiles():
    window = choose_window(np.arange(1001), (1, 90), what="sem")
    assert (window.low, window.high) == pytest.approx((10, 900))


def test_exchanged_percentiles_turn_bright_pores_dark():
    window = choose_window(np.arange(1001), (90, 1), what="sem")
    assert (window.low, window.high) == pytest.approx((900, 10))
    assert window.to_uint8(np.array([1000, 900, 500, 10, 0])).tolist() == [0, 0, 115, 255, 255]
    assert Window.from_dict(window.as_dict()) == window


def test_constant_images_are_refused():
    with pytest.raises(Refusal, match=r"a\.png: every pixel has the grey value 7;.*constant"):
        choose_window(np.full((4, 5), 7), (0, 100), what="a.png")


def test_percentiles_on_one_grey_level_are_refused():
    grey = np.zeros(1000)
    grey[0] = 5
    with pytest.raises(Refusal, match="percentiles 1 and 99 both lie at grey 0"):
        choose_window(grey, (1, 99), what="sem")
    with pytest.raises(Refusal, match="percentiles 99 and 1 both lie at grey 0"):
        choose_window(grey, (99, 1), what="sem")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value):
    with pytest.raises(Refusal, match="2 of 6 values are NaN or infinite"):
        choose_window(np.array([1, value, 2, 3, value, 4]), (0, 100), what="ct")


def test_no_pixels_are_refused():
    with pytest.raises(Refusal, match="no pixels"):
        choose_window(np.array([]), (0, 100), what="ct")


def test_every_stored_grey_survives_the_way_to_the_network_and_back():
    stored = torch.arange(256, dtype=torch.uint8)
    images = to_network(stored)
    assert images.dtype == torch.float32
    assert images[[0, 255]].tolist() == [-1.0, 1.0]
    assert torch.equal(from_network(images), stored)
    assert from_network(torch.tensor([-1.7, 3.0])).tolist() == [0, 255]


def disc(height, width, radius):
    y, x = np.mgrid[:height, :width]
    return (y - (height - 1) / 2) ** 2 + (x - (width - 1) / 2) ** 2 < radius**2


def test_a_round_field_is_found_exactly_pores_included():
    inside = disc(90, 101, 40.0)
    grey = np.where(inside, np.random.default_rng(1).integers(50, 900, inside.shape), 1)
    grey[40:50, 30:45] = 1  # a pore as dark as the background
    np.testing.assert_array_equal(field_of_view(grey), inside)


def test_a_field_that_fills_the_frame_is_kept_whole():
    grey = np.random.default_rng(2).integers(0, 200, (60, 70))
    grey[[0, 0, -1, -1], [0, -1, 0, -1]] = 0  # corners that are equal by chance
    assert field_of_view(grey).all()
    grey[:20, :20] = 0  # a pore in one corner
    grey[-1, -1] = 3
    assert field_of_view(grey).all()


def test_alpha_is_dropped_and_colour_refused():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    alpha = np.full_like(grey, 9)
    for layers in ([grey, alpha], [grey] * 3, [grey] * 3 + [alpha]):
        np.testing.assert_array_equal(collapse_channels(np.dstack(layers), what="a"), grey)
    with pytest.raises(Refusal, match="differ in 12 of 12 pixels"):
        collapse_channels(np.dstack([grey, grey, grey + 1]), what="a.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [2, 3, 10, 1001])
def test_percentiles_by_counting_are_those_by_sorting(dtype, size):
    grey = np.random.default_rng(size).integers(0, 256, size).astype(dtype)
    grey[0], grey[1] = 0, 255
    for percentiles in ((0, 100), (0.1, 99.9), (2.5, 60), (25, 75)):
        low, high = np.percentile(grey, percentiles)
        window = choose_window(grey, percentiles, what="sem")
        assert (window.low, window.high) == pytest.approx((low, high), abs=1e-9)


def test_a_mask_is_known_again_only_where_it_is_the_field_of_view():
    # The edge is what may go wrong: one pixel of the background's value that touches it.
    y, x = np.mgrid[:40, :44]
    inside = (y - 19.5) ** 2 + (x - 21.5) ** 2 < 17**2
    draw = np.random.default_rng(9)
    grey = np.where(inside, draw.integers(5, 200, inside.shape), 3).astype(np.uint16)
    assert is_field_of_view(inside, grey)
    edge = inside & ~np.roll(inside, 1, axis=0)
    for row, column in np.argwhere(edge)[[0, 7]]:
        dented = grey.copy()
        dented[row, column] = 3
        assert not is_field_of_view(inside, dented)
        assert field_of_view(dented).sum() == inside.sum() - 1
    smaller = grey.copy()
    smaller[0, 20] = 9
    assert not is_field_of_view(inside, smaller)
    pore = grey.copy()
    pore[18:22, 20:24] = 3
    assert is_field_of_view(inside, pore)
    np.testing.assert_array_equal(field_of_view(pore), inside)
    assert not is_field_of_view(np.ones_like(inside), grey)
