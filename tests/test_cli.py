"""What the command line answers: one line, an exit code, and help that names every setting."""

import pytest

from sem2ct import cli, config


@pytest.fixture
def answer(capsys, monkeypatch, tmp_path):
    """Runs a command line in this process; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sem2ct"])

    def ask(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(list(arguments))
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return ask


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_without_a_stage_the_six_stages_are_shown_in_order(answer, arguments):
    code, out, _ = answer(*arguments)
    places = [out.index(f"\n  {stage} ") for stage in cli.STAGES]
    assert code == 0
    assert len(places) == 6
    assert places == sorted(places)


def test_every_stage_explains_every_setting(answer):
    for command in cli.STAGES:
        code, out, _ = answer(command, "--help")
        assert code == 0
        for name, field in config.MODELS[command.replace("-", "_")].model_fields.items():
            assert f"  {name}=" in out
            assert " ".join(field.description.split()) in " ".join(out.split())


REFUSALS = [
    (("extrct",), "unknown stage 'extrct'; did you mean 'extract'?"),
    (("train-stylegan", "batchsize=4"), "unknown setting 'batchsize'; did you mean 'batch_size'?"),
    (("train-stylegan", "+batchsize=4"), "unknown setting 'batchsize'; did you mean 'batch_size'?"),
    (("extract", "quick"), "'quick' is no setting; write settings as name=value"),
    (("extract", "--quick"), "unknown option '--quick'; there are: --help, --multirun"),
    (("extract", "colour=red"), "unknown setting 'colour'; 'sem2ct extract --help' explains"),
    (("extract", "toy_ct_shape=8"), "toy_ct_shape=8: input should be a list, such as [1,2,3]"),
    (("extract", "tile_px=" + "9" * 5000), "extract.yaml: Exceeds the limit"),
    (("extract", "size=dmo"), "Available options in 'size': demo paper small tiny"),
    (("extract", "experiment=nothing"), "Could not find 'experiment/nothing'"),
    (("extract", "tile_px=wide"), "tile_px=wide: input should be a valid integer"),
    (("extract", "tile_px=-64"), "tile_px=-64: input should be greater than 0"),
    (("extract", "tile_px=100"), "tile_px=100 is not scale=4 times ct_patch_px=16"),
    (("extract", "sem=???"), "no value for sem; give it as sem=..."),
    (
        ("train-stylegan", "total_images=5000000", "batch_size=48"),
        "total_images=5000000 is not a multiple of batch_size=48; the nearest that is: 5000016",
    ),
    (
        ("train-stylegan", "batch_size=10", "total_images=1000", "devices=4"),
        "batch_size=10 cannot be shared by devices=4; the nearest that can: 12",
    ),
    (("evaluate", "reference=other"), "reference=other is not one of the sets: real, synthetic"),
    (("evaluate", "reach_px=40"), "reach_px=40, but a tile of tile_px=64 supports less than 32"),
    (("train-cyclegan", "network=thin"), "network=thin: input should be 'paper' or 'robust'"),
    (("synthesize",), "stylegan=outputs/train_stylegan/toy_demo"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSALS, ids=lambda value: str(value)[:40])
def test_a_refusal_is_one_line_that_names_the_setting(answer, arguments, said, tmp_path):
    code, out, err = answer(*arguments)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_debug_shows_where_a_refusal_comes_from(monkeypatch):
    monkeypatch.setenv("SEM2CT_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown stage"):
        cli.main(["nothing"])


def test_a_dry_run_tells_and_writes_nothing(answer, tmp_path):
    code, out, _ = answer("extract", "size=tiny", "dry_run=true")
    assert code == 0
    assert "dry run" in out
    assert list(tmp_path.iterdir()) == []
