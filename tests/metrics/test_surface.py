import numpy as np
import pytest

from sem2ct.metrics import surface


def discs(side: int, radii: list[float]) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side]
    pores = np.zeros((side, side), bool)
    step = side / len(radii)
    for index, radius in enumerate(radii):
        centre = (index + 0.5) * step - 0.3
        pores |= (y - centre) ** 2 + (x - centre) ** 2 < radius**2
    return pores


def test_unlike_neighbours_of_small_images_are_counted_pixel_by_pixel():
    pores = np.random.default_rng(1).random((7, 11)) < 0.4
    n_x = sum(pores[y, x] != pores[y, x + 1] for y in range(7) for x in range(10))
    n_y = sum(pores[y, x] != pores[y + 1, x] for y in range(6) for x in range(11))
    assert surface.faces(pores) == (n_x, n_y)


def test_a_half_plane_has_one_face_per_row_and_its_frame_is_no_boundary():
    pores = np.zeros((20, 30), bool)
    pores[:, :13] = True
    assert surface.faces(pores) == (20, 0)
    assert surface.specific_surface(pores, pixel_size_um=1) == pytest.approx(1 / 29)


def test_an_image_without_two_phases_has_no_surface():
    assert surface.specific_surface(np.ones((5, 9), bool), pixel_size_um=0.2) == 0


def test_a_checkerboard_has_every_face():
    y, x = np.mgrid[0:6, 0:9]
    pores = (y + x) % 2 == 0
    assert surface.faces(pores) == (6 * 8, 5 * 9)
    assert surface.specific_surface(pores, pixel_size_um=0.5) == pytest.approx(2 / 0.5)


def test_discs_have_four_over_pi_times_their_circumference_per_area():
    radii = [31.0, 47.0, 20.0]
    pores = discs(400, radii)
    length_per_area = sum(2 * np.pi * radius for radius in radii) / 400**2
    found = surface.specific_surface(pores, pixel_size_um=1)
    assert found == pytest.approx(4 / np.pi * length_per_area, rel=0.02)
    assert surface.boundary_length(found) == pytest.approx(length_per_area, rel=0.02)


def test_half_the_pixel_size_gives_twice_the_surface_per_micrometre():
    pores = discs(60, [12.0])
    coarse = surface.specific_surface(pores, pixel_size_um=0.8)
    assert surface.specific_surface(pores, pixel_size_um=0.4) == pytest.approx(2 * coarse)


def test_a_row_of_pixels_has_no_surface_to_measure():
    with pytest.raises(ValueError, match=r"\(1, 9\)"):
        surface.specific_surface(np.zeros((1, 9), bool), pixel_size_um=1)


def test_a_ball_has_its_own_surface_per_volume():
    radius, side = 30.4, 80
    z, y, x = np.mgrid[0:side, 0 : side + 2, 0 : side + 5] - 39.7
    ball = z**2 + y**2 + x**2 < radius**2
    per_voxel = 4 * np.pi * radius**2 / ball.size
    assert surface.specific_surface(ball, pixel_size_um=1) == pytest.approx(per_voxel, rel=0.01)
    assert surface.specific_surface(ball, pixel_size_um=2) == pytest.approx(per_voxel / 2, rel=0.01)


def test_faces_of_a_volume_are_counted_along_x_y_and_z():
    pores = np.random.default_rng(1).random((4, 6, 7)) < 0.4
    n_x = (pores[:, :, 1:] ^ pores[:, :, :-1]).sum()
    n_y = (pores[:, 1:] ^ pores[:, :-1]).sum()
    n_z = (pores[1:] ^ pores[:-1]).sum()
    assert surface.faces(pores) == (n_x, n_y, n_z)
    expected = 2 / 3 * (n_x + n_y + n_z) / (4 * 6 * 7)
    assert surface.specific_surface(pores, pixel_size_um=1) == pytest.approx(expected)
