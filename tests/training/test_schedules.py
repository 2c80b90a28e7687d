import pytest

from sem2ct.training.schedules import constant_then_linear


@pytest.mark.parametrize(
    ("images_seen", "factor"),
    [(0, 1.0), (300, 1.0), (310, 0.95), (400, 0.5), (499, 0.005), (500, 0.0), (501, 0.0)],
)
def test_the_factor_is_constant_and_then_falls_on_a_line(images_seen, factor):
    given = constant_then_linear(images_seen, constant_images=300, total_images=500)
    assert given == pytest.approx(factor)


def test_a_training_may_be_constant_throughout():
    # A dry run of a short training takes steps beyond its end.
    assert constant_then_linear(501, constant_images=500, total_images=500) == 0.0
    assert constant_then_linear(499, constant_images=500, total_images=500) == 1.0
    assert constant_then_linear(700, constant_images=900, total_images=500) == 1.0
