"""The command line: argv and YAML in, one frozen settings object out.

The only importer of Hydra.  Composing, checking and refusing happen here, before
torch is imported, so that a typo is answered at once; what follows below this
module knows neither Hydra nor the command line.

Exit codes: 0 done, 2 refused (one line says why), 130 and 143 stopped by the user
or the system after saving.  SEM2CT_DEBUG=1 shows the traceback of a refusal.
"""

import difflib
import importlib
import logging
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from sem2ct.runtime.refusal import Refusal

LOGGER = logging.getLogger(__name__)

STAGES = {
    "extract": "SEM images into tiles, micro-CT into patches",
    "train-stylegan": "learn the SEM texture from the tiles",
    "synthesize": "multiply the SEM tiles with the trained generator",
    "train-cyclegan": "learn to paint SEM detail into micro-CT patches",
    "translate": "a slice or a volume of micro-CT with SEM detail",
    "evaluate": "porosity, surface and correlation of it all, with a report",
}
GROUPS = ("rock", "size", "machine")

USAGE = """sem2ct: SEM detail brought into micro-CT volumes of rock.

usage: sem2ct STAGE [setting=value ...]      run a stage; the same line again resumes it
       sem2ct STAGE --help                   its settings, their meaning and values
       sem2ct STAGE --cfg job [...]          the settings as composed
       sem2ct STAGE -m seed=0,1 'run=s${{seed}}'  several runs, one after the other

stages, in their order:
{stages}

settings every stage has:
  rock=toy          configs/rock: where the scans lie (toy: a generated rock)
  size=demo         tiny, demo, small, paper: networks, batch and length together
  machine=auto      auto, cpu, one_gpu, four_gpus
  experiment=NAME   a frozen recipe of configs/experiment
  run=NAME          name of the run, and of its folder under outputs/STAGE/
  dry_run=true      counts, bytes and time; writes nothing
"""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one stage as the command line says, and exits.

    Args:
        arguments: What follows the program's name; by default of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _dispatch(arguments)
    except Refusal as refusal:
        _end(refusal)
    except KeyboardInterrupt:
        print("sem2ct: stopped", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        stages = "\n".join(f"  {name:<16}{what}" for name, what in STAGES.items())
        print(USAGE.format(stages=stages))
        return
    if arguments[0] == "--version":
        print(f"sem2ct {metadata.version('sem2ct')}")
        return
    command, overrides = arguments[0], arguments[1:]
    if command not in STAGES:
        raise Refusal(
            f"unknown stage '{command}'{_suggestion(command, list(STAGES))};"
            f" there are: {', '.join(STAGES)}"
        )
    stage = command.replace("-", "_")
    if "--help" in overrides or "-h" in overrides:
        print(_stage_help(command, stage))
        return
    _refuse_unknown_names(stage, overrides)
    _run_hydra(command, stage, overrides)


def _end(refusal: Refusal) -> NoReturn:
    if os.environ.get("SEM2CT_DEBUG") == "1":
        raise refusal
    print(f"sem2ct: {refusal}", file=sys.stderr)
    sys.exit(2)


def _suggestion(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def configs_folder() -> Path:
    """Where the YAML files lie.

    Returns:
        The folder named by SEM2CT_CONFIGS, else that of the checkout, else the wheel's.

    Raises:
        Refusal: If SEM2CT_CONFIGS names no folder.
    """
    named = os.environ.get("SEM2CT_CONFIGS")
    if named:
        if not Path(named).is_dir():
            raise Refusal(f"SEM2CT_CONFIGS={named} is not a folder; name one that holds configs")
        return Path(named).resolve()
    here = Path(__file__).resolve().parent
    checkout = here.parent.parent / "configs"
    return checkout if (checkout / "extract.yaml").exists() else here / "configs"


def _refuse_unknown_names(stage: str, overrides: list[str]) -> None:
    """Answers a mistyped setting with the nearest one, before Hydra is imported."""
    from sem2ct.config import MODELS

    known = [*MODELS[stage].model_fields, *GROUPS, "experiment", "hydra"]
    for override in overrides:
        if override.startswith("-") or "=" not in override:
            continue
        name = override.split("=", 1)[0].lstrip("+~").split("@")[0]
        first = name.replace("/", ".").split(".")[0]
        if first not in known:
            raise Refusal(
                f"{stage}.yaml: unknown setting '{first}'{_suggestion(first, known)}"
                if _suggestion(first, known)
                else f"{stage}.yaml: unknown setting '{first}'; there are: {', '.join(known[:-1])}"
            )


def _run_hydra(command: str, stage: str, overrides: list[str]) -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    refusals: list[Refusal] = []

    def job(composed: DictConfig) -> None:
        # Kept for later: Hydra would print a line of its own above ours.
        try:
            _start(command, stage, _plain_settings(stage, composed))
        except Refusal as refusal:
            refusals.append(refusal)

    # Hydra would print and exit by itself; the full error comes through to be said in one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [f"sem2ct {command}", *overrides]
    folder = str(configs_folder())
    try:
        hydra.main(version_base="1.3", config_path=folder, config_name=stage)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise Refusal(f"{stage}.yaml: {_one_line(error)}") from error
    if refusals:
        raise refusals[0]


def _one_line(error: Exception) -> str:
    """The part of Hydra's message a user can act on."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cuts = ("Check that", "Config search path", "provider=", "full_key", "object_type", "See ")
    kept = [line for line in lines if not line.startswith(cuts)]
    return " ".join(kept).replace("\t", " ")


def _plain_settings(stage: str, composed: Any) -> dict[str, Any]:
    """Composed YAML to a plain dictionary of this stage's settings."""
    from omegaconf import OmegaConf
    from omegaconf.errors import (
        InterpolationKeyError,
        InterpolationToMissingValueError,
        MissingMandatoryValue,
    )

    values, missing = {}, []
    for name in composed:
        if name in GROUPS:
            continue
        try:
            value = composed[name]
        except (InterpolationToMissingValueError, MissingMandatoryValue):
            missing.append(str(name))
            continue
        except InterpolationKeyError:
            # The preset has no such entry; the check of the settings names the cause.
            continue
        values[name] = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
    if missing:
        raise Refusal(
            f"{stage}.yaml: no value for {', '.join(missing)};"
            f" give it as {' '.join(f'{name}=...' for name in missing)}"
        )
    return values


def _build(stage: str, values: dict[str, Any]) -> Any:
    import pydantic

    from sem2ct import config

    try:
        return config.build(stage, values)
    except pydantic.ValidationError as error:
        raise Refusal(f"{stage}.yaml: {_complaints(error, list(values))}") from error


def _complaints(error: Any, known: list[str]) -> str:
    said: dict[str, str] = {}
    faults = error.errors()
    causes = [fault for fault in faults if fault["type"] != "missing"]
    for fault in causes or faults:
        where = str(fault["loc"][0]) if fault["loc"] else ""
        if fault["type"] == "extra_forbidden":
            said[where] = f"unknown setting '{where}'{_suggestion(where, known)}"
        elif fault["type"] == "missing":
            said[where] = f"no value for {where}; give it as {where}=..."
        elif where:
            given = fault["input"]
            rule = fault["msg"][0].lower() + fault["msg"][1:]
            before = f"{said[where]}, or " if where in said else f"{where}={given}: "
            said[where] = before + rule
        else:
            said[where] = fault["msg"].removeprefix("Value error, ")
    return "; ".join(said.values())


def _start(command: str, stage: str, values: dict[str, Any]) -> None:
    settings = _build(stage, values)
    if settings.dry_run:
        module = importlib.import_module(f"sem2ct.stages.{stage}")
        rows = {
            "folder": str(settings.run_root / stage / settings.run),
            **module.estimate(settings),
        }
        width = max(map(len, rows)) + 2
        print(f"sem2ct {command}: dry run, nothing is written")
        print("\n".join(f"  {name:<{width}}{value}" for name, value in rows.items()))
        return
    facts = _facts_if_complete(stage, settings)
    if facts is not None:
        folder = settings.run_root / stage / settings.run
        said = "".join(f" | {name}: {value}" for name, value in facts.items())
        print(f"{stage}: complete already, in {folder}{said}", file=sys.stderr)
        return
    from sem2ct import launch

    launch.run(
        work,
        devices=getattr(settings, "devices", 1),
        arguments=(stage, values),
        device=getattr(settings, "device", "cpu"),
    )


def _facts_if_complete(stage: str, settings: Any) -> dict[str, Any] | None:
    """What a run that is done with these very settings made; answered without torch."""
    from sem2ct.runtime.run_folder import RunFolder

    path = settings.run_root / stage / settings.run
    if not (path / "done.json").exists() or settings.asks_more:
        return None
    writer = os.environ.get("RANK", "0") == "0"
    return RunFolder.open(path, settings.model_dump(mode="json"), writer=writer).facts()


def work(stage: str, values: dict[str, Any]) -> None:
    """One process of one stage: opens the run folder and runs the stage in it.

    Args:
        stage: Name of the stage with underscores.
        values: Its settings as plain values.

    Raises:
        Refusal: If settings, inputs or the folder cannot be worked with.
    """
    settings = _build(stage, values)
    module = importlib.import_module(f"sem2ct.stages.{stage}")
    from sem2ct.runtime import distributed, log
    from sem2ct.runtime.run_folder import RunFolder

    path = settings.run_root / stage / settings.run
    folder = RunFolder.open(
        path,
        settings.model_dump(mode="json"),
        inputs=module.inputs(settings),
        writer=distributed.is_main(),
    )
    log.start(path)
    LOGGER.info("%s: in %s", stage, path)
    try:
        module.run(settings, folder)
    except Refusal:
        folder.forget()
        raise
    LOGGER.info("%s: done, in %s", stage, path)


def _stage_help(command: str, stage: str) -> str:
    """Every setting with its meaning, type and composed value."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from sem2ct.config import MODELS

    with initialize_config_dir(version_base="1.3", config_dir=str(configs_folder())):
        composed = compose(config_name=stage)
    lines = [
        f"sem2ct {command}: {STAGES[command]}",
        "",
        f"usage: sem2ct {command} [setting=value ...]",
        "",
        f"groups: {', '.join(f'{group}=...' for group in GROUPS)}, experiment=...",
        "",
        "settings (values as composed from rock=toy size=demo):",
    ]
    for name, field in MODELS[stage].model_fields.items():
        value = OmegaConf.select(composed, name)
        shown = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        lines.append(f"  {name}={shown}")
        lines.append(f"      {field.description}")
    recipes = configs_folder() / "experiment"
    options = [*sorted(recipes.glob("*.yaml")), *sorted(recipes.glob(f"{stage}/*.yaml"))]
    names = [path.relative_to(recipes).with_suffix("").as_posix() for path in options]
    lines += ["", f"experiments: {', '.join(names) or 'none'}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
