import logging

import pytest

from sem2ct.runtime import log


@pytest.fixture(autouse=True)
def _quiet_afterwards():
    yield
    log.stop()


def test_a_line_has_the_order_and_units_of_the_house():
    values = {"d_loss": 0.7149, "g_loss": 1.934, "augment": 0.18}
    assert (
        log.line(512000, 3.1 * 3600, 41.23, values)
        == "images 512000 | 3.1 h | 41.2 images/s | d_loss 0.71 | g_loss 1.93 | augment 0.18"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (90, "1.5 min"), (5400, "1.5 h")]
)
def test_time_is_told_in_the_unit_that_fits(seconds, text):
    assert log.line(1, seconds, 1, {}) == f"images 1 | {text} | 1.0 images/s"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (-0.5, "-0.50"), (0.00123, "1.2e-03"), (250000, "2.5e+05"), (1234.5, "1234.50")],
)
def test_small_and_large_values_keep_two_digits(value, text):
    assert log.line(1, 1, 1, {"x": value}).endswith(f"x {text}")


def test_lines_go_to_the_terminal_and_to_the_file(tmp_path, capsys):
    log.start(tmp_path)
    logging.getLogger("sem2ct.training.loop").info("images 8")
    logging.getLogger("another").info("not ours")
    assert capsys.readouterr().err == "images 8\n"
    assert (tmp_path / "log.txt").read_text().endswith(" images 8\n")


def test_a_second_start_moves_the_file_and_goes_on_in_it(tmp_path, capsys):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    logger = logging.getLogger("sem2ct")
    for name, text in (("one", "first"), ("two", "second"), ("one", "third")):
        log.start(tmp_path / name)
        logger.info(text)
    assert capsys.readouterr().err == "first\nsecond\nthird\n"
    ends = [line.split()[-1] for line in (tmp_path / "one" / "log.txt").read_text().splitlines()]
    assert ends == ["first", "third"]


def test_only_rank_0_speaks_and_the_others_warn(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(log.distributed, "rank", lambda: 1)
    log.start(tmp_path)
    logging.getLogger("sem2ct").info("images 8")
    logging.getLogger("sem2ct").warning("inverted")
    assert capsys.readouterr().err == "rank 1: inverted\n"
    assert not (tmp_path / "log.txt").exists()
    assert log.progress(10, unit="images", what="train").disable


def test_a_bar_counts_from_what_was_done(capsys):
    with log.progress(100, done=40, unit="images", what="train") as bar:
        bar.update(60)
    shown = capsys.readouterr().err
    assert "train" in shown
    assert "100/100" in shown
    assert "images/s" in shown
