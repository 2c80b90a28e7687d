import numpy as np
import pytest
import torch

from sem2ct.stylegan import augment_geometry
from sem2ct.stylegan.augment_geometry import SYM6, warp


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shifted(x, y):
    return torch.tensor([[[1.0, 0, x], [0, 1, y], [0, 0, 1]]], dtype=torch.float64)


def turned(angle):
    c, s = np.cos(angle), np.sin(angle)
    return torch.tensor([[[c, -s, 0], [s, c, 0], [0, 0, 1]]], dtype=torch.float64)


def test_sym6_is_an_orthonormal_wavelet_with_six_vanishing_moments():
    h = np.array(SYM6)
    assert h.sum() == pytest.approx(np.sqrt(2), abs=1e-12)
    assert h @ h == pytest.approx(1, abs=1e-10)
    for shift in range(1, 6):
        assert h[: -2 * shift] @ h[2 * shift :] == pytest.approx(0, abs=1e-10)
    n = np.arange(12.0)
    for moment in range(6):
        assert ((-1) ** n * n**moment) @ h == pytest.approx(0, abs=1e-8)


def test_an_image_that_is_not_moved_comes_back():
    image = images(2, 1, 24, 24)
    torch.testing.assert_close(warp(image, shifted(0, 0).expand(2, 3, 3)), image, atol=2e-6, rtol=0)


def test_a_whole_shift_is_the_mirrored_image_shifted():
    image = images(1, 1, 16, 16)
    padded = np.pad(image[0, 0].numpy(), 8, mode="reflect")
    expected = padded[8 - 3 : 24 - 3, 8 + 5 : 24 + 5]
    result = warp(image, shifted(5, -3))[0, 0].numpy()
    assert result == pytest.approx(expected, abs=5e-6)


def test_a_wave_shifted_by_a_fraction_changes_its_phase():
    x = torch.arange(64.0)
    wave = torch.sin(2 * np.pi * (x - 31.5) / 16).expand(1, 1, 64, 64)
    result = warp(wave, shifted(2.3, 0))[0, 0, :, 12:-12]
    expected = torch.sin(2 * np.pi * (x + 2.3 - 31.5) / 16).expand(64, 64)[:, 12:-12]
    assert (result - expected).abs().max() < 0.02


def test_x_comes_before_y_and_a_quarter_turn_turns_as_its_matrix_says():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    blob = torch.exp(-((x - 20) ** 2 + (y - 12) ** 2) / 18)[None, None]
    result = warp(blob, turned(np.pi / 2))[0, 0]
    # Result (c, d) comes from (-d, c): the blob at (4.5, -3.5) appears at (-3.5, -4.5).
    expected = torch.exp(-((x - 12) ** 2 + (y - 11) ** 2) / 18)
    assert (result - expected).abs().max() < 0.02


def direct(image, inverse, side):
    """The definition, one result sample after the other, in float64."""
    h = np.array(SYM6) / np.sqrt(2)
    far = side - 1
    padded = np.pad(image, far, mode="reflect")

    def doubled(rows):
        result = np.zeros((rows.shape[0], 2 * rows.shape[1]))
        for t in range(result.shape[1]):
            for k in range(rows.shape[1]):
                if 0 <= t - 2 * k + 5 < 12:
                    result[:, t] += 2 * h[t - 2 * k + 5] * rows[:, k]
        return result

    fine = doubled(doubled(padded).T).T
    centre = (side - 1) / 2
    taps = np.zeros((2 * side + 12, 2 * side + 12))
    for v in range(taps.shape[0]):
        for u in range(taps.shape[1]):
            target = np.array([(u - 6) / 2 - centre, (v - 6) / 2 - centre, 1])
            x, y = (2 * ((inverse @ target)[:2] + centre + far)).tolist()
            column, row = int(np.floor(x)), int(np.floor(y))
            patch = fine[row : row + 2, column : column + 2]
            a, b = x - column, y - row
            taps[v, u] = np.array([1 - b, b]) @ patch @ np.array([1 - a, a])

    def halved(rows):
        starts = [rows[:, 2 * i + 1 : 2 * i + 13] @ h for i in range(side)]
        return np.stack(starts, axis=1)

    return halved(halved(taps).T).T


def test_the_result_is_that_of_the_definition():
    side = 10
    image = images(1, 1, side, side, seed=2)
    inverse = turned(0.4) @ torch.diag(torch.tensor([1.2, 0.7, 1.0])).double() @ shifted(1.3, -0.6)
    expected = direct(image[0, 0].double().numpy(), inverse[0].numpy(), side)
    assert warp(image, inverse)[0, 0].numpy() == pytest.approx(expected, abs=5e-6)


def test_a_wider_margin_changes_nothing(monkeypatch):
    image = images(1, 1, 32, 32)
    inverse = turned(0.3) @ shifted(1.7, -2.2)
    before = warp(image, inverse)
    monkeypatch.setattr(augment_geometry, "_margin", lambda inverse, side: side - 1)
    # float32 coordinates of a larger grid are coarser by that much.
    torch.testing.assert_close(warp(image, inverse), before, atol=5e-5, rtol=0)


def test_the_length_of_the_blocks_changes_nothing(monkeypatch):
    image = images(1, 1, 32, 32)
    inverse = turned(0.3) @ shifted(1.7, -2.2)
    before = warp(image, inverse)
    augment_geometry._doubling.cache_clear()
    augment_geometry._halving.cache_clear()
    monkeypatch.setattr(augment_geometry, "_BLOCK", 8)
    after = warp(image, inverse)
    augment_geometry._doubling.cache_clear()
    augment_geometry._halving.cache_clear()
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


def test_each_image_has_its_own_transform():
    pair = images(2, 1, 16, 16)
    inverse = torch.cat([shifted(1.5, 0), turned(0.8)])
    together = warp(pair, inverse)
    for k in range(2):
        alone = warp(pair[k : k + 1], inverse[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=0)


def test_it_is_linear_and_its_gradient_is_the_adjoint_twice():
    x, y = images(1, 1, 16, 16, seed=5).requires_grad_(), images(1, 1, 16, 16, seed=6)
    y.requires_grad_()
    inverse = turned(0.5) @ shifted(0.7, 2.1)
    (adjoint,) = torch.autograd.grad(warp(x, inverse), x, y, create_graph=True)
    torch.testing.assert_close(
        (adjoint * x).sum(), (warp(x, inverse) * y).sum(), rtol=1e-4, atol=1e-4
    )
    # The adjoint is linear in y, and its adjoint is the map itself.
    (back,) = torch.autograd.grad(adjoint, y, x.detach())
    torch.testing.assert_close(back, warp(x.detach(), inverse), atol=1e-5, rtol=0)


def test_torch_needs_no_second_derivative_of_its_own_sampling():
    image = images(1, 1, 5, 5, seed=7).double().requires_grad_()
    inverse = turned(0.5) @ shifted(0.7, 1.1)

    def squared(values):
        return warp(values, inverse).square()

    assert torch.autograd.gradcheck(squared, image)
    assert torch.autograd.gradgradcheck(squared, image)


def test_float64_stays_float64_and_is_what_float32_rounds():
    image, inverse = images(1, 1, 32, 32), turned(0.3) @ shifted(1.7, -2.2)
    exact = warp(image.double(), inverse)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(warp(image, inverse), exact.float(), atol=3e-5, rtol=0)


@pytest.mark.parametrize("x", [25.3, -25.3, 60.0])
def test_beyond_the_mirrored_image_it_is_grey_0(x):
    side = 12
    image = images(1, 1, side, side, seed=3)
    inverse = shifted(x, 0.4)
    expected = direct_zero(image[0, 0].double().numpy(), inverse[0].numpy(), side)
    assert warp(image, inverse)[0, 0].numpy() == pytest.approx(expected, abs=2e-5)


def direct_zero(image, inverse, side):
    """As `direct`, on a canvas of zeros that is wide enough."""
    far, wide = side - 1, 90
    padded = np.pad(np.pad(image, far, mode="reflect"), wide - far)
    h = np.array(SYM6) / np.sqrt(2)
    total = side + 2 * wide
    double = np.zeros((2 * total, total))
    for k in range(total):
        for j in range(12):
            if 0 <= 2 * k - 5 + j < 2 * total:
                double[2 * k - 5 + j, k] = 2 * h[j]
    fine = double @ padded @ double.T
    # The upsampled canvas ends where the mirrored image ends.
    first, last = 2 * (wide - far), 2 * (wide + side + far)
    fine[:first], fine[last:], fine[:, :first], fine[:, last:] = 0, 0, 0, 0
    centre = (side - 1) / 2
    u = np.arange(2 * side + 12)
    target = np.stack([*np.meshgrid((u - 6) / 2 - centre, (u - 6) / 2 - centre)])
    x, y = 2 * (inverse[:2, :2] @ target.reshape(2, -1) + inverse[:2, 2:] + centre + wide)
    columns, rows = np.floor(x).astype(int), np.floor(y).astype(int)
    a, b = x - columns, y - rows
    taken = (
        fine[rows, columns] * (1 - a) * (1 - b)
        + fine[rows, columns + 1] * a * (1 - b)
        + fine[rows + 1, columns] * (1 - a) * b
        + fine[rows + 1, columns + 1] * a * b
    ).reshape(len(u), len(u))
    halve = np.zeros((side, len(u)))
    for i in range(side):
        halve[i, 2 * i + 1 : 2 * i + 13] = h
    return halve @ taken @ halve.T
