"""Any combination of settings: a dry run answers, or the command is refused by name."""

import hypothesis
import pytest
from hypothesis import strategies as st

from sem2ct import cli, composition, config

# Examples for each stage: those whose dry run takes a step of a network get fewer.
EXAMPLES = {"extract": 30, "train-stylegan": 10, "synthesize": 12}
EXAMPLES |= {"train-cyclegan": 10, "translate": 12, "evaluate": 30}


@pytest.mark.parametrize("command", cli.STAGES)
def test_a_dry_run_answers_or_names_what_is_wrong(command, finished, fuzz_settings):
    base = fuzz_settings.settings(finished, command)
    assert fuzz_settings.ask(command, base, {}) == "answered"
    answers = set()

    @hypothesis.settings(
        max_examples=EXAMPLES[command],
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(given=fuzz_settings.examples(command.replace("-", "_"), base, large=False))
    def asked(given):
        answers.add(fuzz_settings.ask(command, base, given))

    asked()
    assert "refused" in answers


@hypothesis.settings(max_examples=60, deadline=None, database=None, derandomize=True)
@hypothesis.given(words=st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_a_command_line_of_any_text_ends_in_one_line(words):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["sem2ct"])
        said = []
        patched.setattr("builtins.print", lambda *parts, **_: said.extend(map(str, parts)))
        with pytest.raises(SystemExit) as end:
            cli.main(["extract", "dry_run=true", "size=tiny", *words])
    assert end.value.code in (0, 2)
    assert end.value.code == 0 or len(said) == 1


def test_more_blocks_than_any_memory_holds_are_refused_by_name(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train-cyclegan", "dry_run=true", "size=tiny", "blocks=100000"])
    assert end.value.code == 2
    assert "blocks" in capsys.readouterr().err
    most = composition.settings_of("train_cyclegan", ["size=tiny", "blocks=1000"])
    assert config.build("train_cyclegan", most).blocks == 1000
