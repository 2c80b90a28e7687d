"""Settings from a stranger, in a recipe or on a command line: values, and no calls."""

import pickle

import pytest

from sem2ct import cli, composition
from sem2ct.runtime.refusal import Refusal

HEAD = "# @package _global_\n"
CALL = "{_target_: builtins.open, file: TRACE, mode: w}"
FACTORY = '{"()": builtins.open, file: TRACE, mode: w}'
HANDLER = "{class: logging.FileHandler, filename: TRACE}"
RECIPES = {
    "callbacks": f"hydra: {{callbacks: {{a: {CALL}}}}}",
    "launcher": "hydra: {launcher: {_target_: os.system}}",
    "sweeper": "hydra: {sweeper: {_target_: '${oc.env:HOME}'}}",
    "factory": f"hydra: {{job_logging: {{handlers: {{a: {FACTORY}}}}}}}",
    "handler": f"hydra: {{job_logging: {{handlers: {{a: {HANDLER}}}}}}}",
    "a setting": f"threshold: {CALL}",
    "a name": f"sets: {CALL}",
    "a list": f"threshold: [{CALL}]",
    "python": 'note: !!python/object/apply:builtins.open ["TRACE", w]',
}


def recipe(folder, name, text):
    (folder / "mine/experiment").mkdir(parents=True, exist_ok=True)
    text = HEAD + text.replace("TRACE", str(folder / "attacked"))
    (folder / f"mine/experiment/{name}.yaml").write_text(text)


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """Gives a command line; returns exit code and what was said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sem2ct"])

    def given(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(list(arguments))
        said = capsys.readouterr()
        return end.value.code, said.out + said.err

    return given


@pytest.mark.parametrize("attack", RECIPES)
@pytest.mark.parametrize("sweep", [(), ("-m", "seed=1,2")], ids=["one", "several"])
def test_a_recipe_calls_nothing(tmp_path, ask, attack, sweep):
    recipe(tmp_path, "evil", RECIPES[attack])
    given = ["size=tiny", "experiment=evil", "dry_run=true", "--config-dir", "mine", *sweep]
    code, said = ask("evaluate", *given)
    assert code == 2
    assert "evaluate.yaml: " in said
    assert any(word in said for word in ("names code", "where logs go", "python/object")), said
    assert not (tmp_path / "attacked").exists()


def test_one_recipe_of_several_is_enough_to_be_refused(tmp_path, ask):
    recipe(tmp_path, "good", "seed: 3")
    recipe(tmp_path, "evil", RECIPES["callbacks"])
    given = ["size=tiny", "experiment=good,evil", "dry_run=true", "-m", "--config-dir", "mine"]
    code, said = ask("extract", *given)
    assert code == 2
    assert "names code" in said
    assert not (tmp_path / "attacked").exists()


def test_a_pickle_of_an_earlier_job_is_not_run_again(tmp_path, ask):
    (tmp_path / "config.pickle").write_bytes(pickle.dumps({}))
    code, said = ask("extract", "--experimental-rerun", "config.pickle")
    assert code == 2
    assert "unknown option '--experimental-rerun'" in said


RUNS = ["../../x", "..", ".", "a/b", "/tmp/x", "-\u202e", "", "a\nb", ".hidden", "x" * 300]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("command", cli.STAGES)
def test_a_run_stays_under_its_root(command, run):
    values = composition_of(command)
    with pytest.raises(Refusal, match=r"yaml: run="):
        cli.checked(command.replace("-", "_"), values | {"run": run})


def composition_of(command, known={}):  # noqa: B006 - composing takes long, once is enough
    if command not in known:
        known[command] = composition.settings_of(command.replace("-", "_"), ["size=tiny"])
    return known[command]


@pytest.mark.parametrize("name", ["../x", "a/b", "<script>alert(1)</script>", "=1+1", "@x", ""])
def test_a_sets_name_is_a_name(name):
    values = composition_of("evaluate")
    with pytest.raises(Refusal, match="sets"):
        cli.checked("evaluate", values | {"sets": {**values["sets"], name: "somewhere"}})


UNFIT = [
    ("ct", "a\0b", r"ct='a\\x00b': holds a character that cannot be shown"),
    ("ct", "\udcff.tif", r"ct='\\udcff.tif': holds a character that cannot be shown"),
    ("sem", ["good", "a\nb"], "sem='a.nb': holds a character that cannot be shown"),
    ("ct", "a/" + "é" * 128, "ct=a/é.*: a name of more than 255 bytes"),
    ("tile_px", 2**31, "tile_px=2147483648: input should be less than 2147483648"),
    ("sem_flat_share", float("nan"), "sem_flat_share=nan: input should be a finite number"),
    ("ct_pixel_um", float("inf"), "ct_pixel_um=inf: input should be a finite number"),
]


@pytest.mark.parametrize(("name", "value", "said"), UNFIT)
def test_what_no_disk_and_no_image_can_hold_is_refused_by_name(name, value, said):
    with pytest.raises(Refusal, match=said):
        cli.checked("extract", composition_of("extract") | {name: value})


def test_a_note_may_have_several_lines():
    values = composition_of("evaluate") | {"note": "one\ntwo " + "x" * 300}
    assert cli.checked("evaluate", values).note == values["note"]
