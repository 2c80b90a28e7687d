import pytest

from sem2ct.data import sequence


def test_names_are_sorted_as_people_count():
    names = ["s10.tif", "s9.tif", "S2.tif", "a100b3.tif", "a100b20.tif"]
    ordered = ["a100b3.tif", "a100b20.tif", "S2.tif", "s9.tif", "s10.tif"]
    assert sorted(names, key=sequence.natural) == ordered


@pytest.mark.parametrize(
    ("names", "lost"),
    [
        (["s08", "s10", "s11"], ["s09"]),  # of two steps as frequent, the smaller
        (["s08", "s09", "s10", "s12"], ["s11"]),
        (["s0_t3", "s5_t3", "s10_t3", "s25_t3"], ["s15_t3", "s20_t3"]),
        (["s0", "s10", "s20"], []),
        (["a1_1", "a2_1", "a2_2", "a4_9"], []),  # two numbers vary: no series
        (["core", "cap", "rim"], []),
        (["2020", "2021", "9999999"], []),
    ],
)
def test_gaps_in_a_series_are_found(names, lost):
    assert sequence.missing(names) == lost
