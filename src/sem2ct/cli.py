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
import textwrap
from importlib import metadata
from typing import Any, NoReturn

from sem2ct import composition
from sem2ct.runtime.memory import refusing_too_much
from sem2ct.runtime.refusal import Refusal

LOGGER = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 200

STAGES = {
    "extract": "SEM images into tiles, micro-CT into patches",
    "train-stylegan": "learn the SEM texture from the tiles",
    "synthesize": "multiply the SEM tiles with the trained generator",
    "train-cyclegan": "learn to paint SEM detail into micro-CT patches",
    "translate": "a slice or a volume of micro-CT with SEM detail",
    "evaluate": "porosity, surface and correlation of it all, with a report",
}

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
  machine=auto      auto, cpu, one_gpu, four_gpus, slurm
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
    except BrokenPipeError:
        # The reader of our answer, `head` say, has seen enough; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.filename is None or error.errno is None:
            raise
        # A file that went away or may not be read: about the machine, not about the program.
        _end(Refusal(f"{error.filename}: {os.strerror(error.errno).lower()}"))
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
    composition.run(stage, overrides, lambda values: start(command, values))


def _end(refusal: Refusal) -> NoReturn:
    if os.environ.get("SEM2CT_DEBUG") == "1":
        raise refusal
    print(f"sem2ct: {refusal}", file=sys.stderr)
    sys.exit(2)


def _suggestion(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _refuse_unknown_names(stage: str, overrides: list[str]) -> None:
    """Answers a mistyped setting with the nearest one, before Hydra is imported."""
    from sem2ct.config import MODELS

    known = [*MODELS[stage].model_fields, *composition.GROUPS, "experiment", "hydra"]
    for override in overrides:
        if override.startswith("-") or "=" not in override:
            continue
        name = override.split("=", 1)[0].lstrip("+~").split("@")[0]
        first = name.replace("/", ".").split(".")[0]
        if first not in known:
            near = _suggestion(first, known)
            more = f"; 'sem2ct {stage.replace('_', '-')} --help' explains those that there are"
            raise Refusal(f"{stage}.yaml: unknown setting '{first}'{near or more}")


def checked(stage: str, values: dict[str, Any]) -> Any:
    """Turns plain values into the settings of a stage, or says in one line what is wrong."""
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
            rule = rule.replace("a valid tuple", "a list, such as [1,2,3]")
            before = f"{said[where]}, or " if where in said else f"{where}={_short(given)}: "
            said[where] = before + rule
        else:
            said[where] = fault["msg"].removeprefix("Value error, ")
    return "; ".join(said.values())


def _short(given: Any) -> str:
    try:
        text = str(given)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def start(command: str, values: dict[str, Any]) -> None:
    """Begins or resumes a run, or says what it would take.

    Args:
        command: Name of the stage.
        values: Its settings as plain values.

    Raises:
        Refusal: If settings, inputs or the folder cannot be worked with.
    """
    stage = command.replace("-", "_")
    settings = checked(stage, values)
    if settings.dry_run:
        module = importlib.import_module(f"sem2ct.stages.{stage}")
        with refusing_too_much(command):
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
    values, later = settings.model_dump(mode="json"), settings.LATER
    return RunFolder.open(path, values, later=later, writer=writer).facts()


def work(stage: str, values: dict[str, Any]) -> None:
    """One process of one stage: opens the run folder and runs the stage in it.

    Args:
        stage: Name of the stage with underscores.
        values: Its settings as plain values.

    Raises:
        Refusal: If settings, inputs or the folder cannot be worked with.
    """
    settings = checked(stage, values)
    module = importlib.import_module(f"sem2ct.stages.{stage}")
    from sem2ct.runtime import disk, distributed, log, signals
    from sem2ct.runtime.run_folder import RunFolder

    path = settings.run_root / stage / settings.run
    folder = RunFolder.open(
        path,
        settings.model_dump(mode="json"),
        inputs=module.inputs(settings),
        later=settings.LATER,
        writer=distributed.is_main(),
    )
    log.start(path)
    LOGGER.info("%s: in %s", stage, path)
    if folder.left_by:
        LOGGER.info("%s broke off here; going on from what it left whole", folder.left_by)
    if folder.younger:
        LOGGER.info("begun before there were these settings, taken for: %s", folder.younger)
    try:
        with signals.leaving(), disk.refusing_all(path), refusing_too_much(stage):
            module.run(settings, folder)
    except Refusal:
        folder.forget()
        raise
    LOGGER.info("%s: done, in %s", stage, path)


def _stage_help(command: str, stage: str) -> str:
    """Every setting with its meaning, type and composed value."""
    from sem2ct.config import MODELS

    shown = composition.shown(stage)
    lines = [
        f"sem2ct {command}: {STAGES[command]}",
        "",
        f"usage: sem2ct {command} [setting=value ...]",
        "",
        f"groups: {', '.join(f'{group}=...' for group in composition.GROUPS)}, experiment=...",
        "",
        "settings (values as composed from rock=toy size=demo):",
    ]
    for name, field in MODELS[stage].model_fields.items():
        lines.append(f"  {name}={shown[name]}")
        lines.append(textwrap.indent(field.description or "", 6 * " "))
    recipes = composition.configs_folder() / "experiment"
    options = [*sorted(recipes.glob("*.yaml")), *sorted(recipes.glob(f"{stage}/*.yaml"))]
    names = [path.relative_to(recipes).with_suffix("").as_posix() for path in options]
    lines += ["", f"experiments: {', '.join(names) or 'none'}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
