import numpy as np
import pytest
import torch

from sem2ct.runtime import seeding


def field(key, rows, columns, first_row=0, first_column=0):
    y = torch.arange(first_row, first_row + rows)[:, None]
    x = torch.arange(first_column, first_column + columns)
    return seeding.hashed_normal(key, y, x)


def correlation(one, two):
    return float(np.corrcoef(one.flatten().numpy(), two.flatten().numpy())[0, 1])


def test_mix_is_the_digest_that_the_rfc_defines():
    """BLAKE2b of "i7;s3:sem;i0;" with 8 bytes, from coreutils' b2sum -l 64, halved."""
    assert (
        seeding.mix(7, "sem", 0) == int.from_bytes(bytes.fromhex("d0848a0c67567aaa"), "little") // 2
    )


def test_no_two_positions_mix_to_the_same():
    positions = [(1,), ("1",), (1, 1), (11,), ("1", "1"), ("11",), ("1;s1:1",), (-1,), ("",), ()]
    assert len({seeding.mix(0, *position) for position in positions}) == len(positions)
    assert seeding.mix(0, 1) != seeding.mix(1, 0)
    assert seeding.mix(3, np.int64(4)) == seeding.mix(3, 4)


def test_mixed_numbers_fill_63_bits():
    numbers = [seeding.mix(0, n) for n in range(2000)]
    assert min(numbers) >= 0
    assert 2**62 < max(numbers) < 2**63
    ones = sum(number.bit_count() for number in numbers) / (2000 * 63)
    assert abs(ones - 0.5) < 4 * 0.5 / (2000 * 63) ** 0.5


def test_a_stream_starts_where_its_position_says():
    first = torch.randn(5, generator=seeding.generator(3, "sem", 8))
    assert torch.equal(first, torch.randn(5, generator=seeding.generator(3, "sem", 8)))
    assert not torch.equal(first, torch.randn(5, generator=seeding.generator(3, "sem", 9)))
    numbers = seeding.numpy_generator(3, "sem", 8).random(5)
    assert np.array_equal(numbers, seeding.numpy_generator(3, "sem", 8).random(5))


def test_hashed_numbers_are_standard_normal():
    """Tolerances: 5 standard errors of n = 10**6 draws of a standard normal."""
    values = field(1, 1000, 1000).double().flatten()
    n = len(values)
    assert abs(values.mean()) < 5 * n**-0.5
    assert abs(values.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((values**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((values**4).mean() - 3) < 5 * (96 / n) ** 0.5
    levels = torch.linspace(-4, 4, 33, dtype=torch.float64)
    expected = torch.special.ndtr(levels)
    found = torch.searchsorted(values.sort().values, levels) / n
    error = (expected * (1 - expected) / n).sqrt()
    assert ((found - expected).abs() < 5 * error + 1 / n).all()
    assert torch.isfinite(values).all()


@pytest.mark.parametrize(("dy", "dx"), [(0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (16, 0), (0, 64)])
def test_neighbours_are_independent(dy, dx):
    size = 700
    moved = field(2, size, size, first_row=dy, first_column=100 + dx)
    here = field(2, size, size, first_column=100)
    assert abs(correlation(here, moved)) < 5 / size
    assert abs(correlation(here**2, moved**2)) < 5 / size


@pytest.mark.parametrize("other", [4, 3 + 2**20, -3])
def test_keys_are_independent(other):
    assert abs(correlation(field(3, 700, 700), field(other, 700, 700))) < 5 / 700


def test_the_order_of_the_coordinates_matters():
    square = field(3, 700, 700)
    upper = torch.triu_indices(700, 700, offset=1)
    assert abs(correlation(square[*upper], square.T[*upper])) < 5 / 490


def test_no_frequency_stands_out():
    """|FFT|^2 / n of white noise is exponential: n values stay below ln n + 7 (p = 1e-3)."""
    size = 1024
    for key, first in ((5, 0), (6, 2**31 - 512), (7, -512)):
        noise = field(key, size, size, first, first)
        power = torch.fft.rfft2(noise).abs().square() / size**2
        # The first and the last column hold real pairs twice; the others are independent.
        independent = power[:, 1:-1]
        assert independent.max() < np.log(independent.numel()) + 7
        assert independent.min() > np.exp(-7) / independent.numel()
        assert abs(independent.mean() - 1) < 5 * independent.numel() ** -0.5


def test_a_value_depends_on_its_own_place_alone():
    whole = field(8, 40, 50)
    assert torch.equal(field(8, 7, 9, first_row=20, first_column=30), whole[20:27, 30:39])
    places = torch.tensor([[3, 4], [39, 0], [0, 49]])
    assert torch.equal(
        seeding.hashed_normal(8, places[:, 0], places[:, 1]), whole[places[:, 0], places[:, 1]]
    )
    assert seeding.hashed_normal(8, torch.tensor(5), torch.tensor(6)) == whole[5, 6]


def test_coordinates_broadcast_and_are_left_as_they_were():
    z, y, x = torch.arange(3)[:, None, None], torch.arange(4)[:, None], torch.arange(5)
    dense = [part.contiguous() for part in torch.broadcast_tensors(z, y, x)]
    assert torch.equal(seeding.hashed_normal(9, z, y, x), seeding.hashed_normal(9, *dense))
    assert z.flatten().tolist() == [0, 1, 2]
    assert x.tolist() == [0, 1, 2, 3, 4]


def test_coordinates_that_are_no_integers_are_refused():
    with pytest.raises(ValueError, match=r"int64, not torch\.float32"):
        seeding.hashed_normal(0, torch.zeros(3))
    with pytest.raises(ValueError, match="at least one"):
        seeding.hashed_normal(0)


def test_the_finaliser_is_splitmix64():
    """Steele's generator started at 0 begins E220A8397B1DCDAF, 6E789E6AA1B965F4."""
    states = torch.tensor([seeding.STRIDE, 2 * seeding.STRIDE % 2**64])
    mixed = seeding._avalanche(states)
    assert [int(value) % 2**64 for value in mixed] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@pytest.mark.gpu
def test_a_gpu_draws_what_the_cpu_draws():
    y, x = torch.arange(1000)[:, None], torch.arange(1000)
    there = seeding.hashed_normal(11, y.cuda(), x.cuda())
    torch.testing.assert_close(there.cpu(), seeding.hashed_normal(11, y, x), atol=2e-6, rtol=1e-5)
