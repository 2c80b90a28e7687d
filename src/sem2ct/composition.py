"""YAML files and overrides into plain values; nothing that they name is ever called.

Hydra composes, and calls what `_target_` names in its own part of a composition: launchers,
callbacks, log handlers.  A recipe from a stranger may hold such names too, so a composition
is looked through before Hydra acts on it, and only several runs (-m) or a look at the
settings (--cfg, --info) are left to Hydra; a single run needs no more of it.
"""

import argparse
import contextlib
import difflib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sem2ct.runtime.refusal import Refusal

GROUPS = ("rock", "size", "machine")
_MANY = ("--multirun", "-m")
_LOOKS = ("--cfg", "--resolve", "--info", "--package")
_ONE_MORE_FOLDER = "--config-dir"
# Where Hydra keeps the classes that launch and sweep.
_HYDRAS_OWN = ("hydra._internal.core_plugins.", "hydra_plugins.")
_UNPARSABLE = (ValueError, LookupError, RecursionError)


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


def run(stage: str, arguments: list[str], start: Callable[[dict[str, Any]], None]) -> None:
    """Composes the settings, and starts a run of them, or several.

    Args:
        stage: Name of the stage with underscores.
        arguments: What follows the stage on the command line: overrides and flags.
        start: Called with the plain values of each run.

    Raises:
        Refusal: If they do not compose, a value is missing, or a YAML file names code.
    """
    overrides, flags, folder = _told_apart(arguments)
    runs = _each(stage, overrides) if any(flag in _MANY for flag in flags) else [overrides]
    # Hydra composes again below: whatever it may come to is looked through here.
    looked = [composed(stage, one, folder=folder) for one in runs]
    if flags:
        _leave_to_hydra(stage, arguments, start)
    else:
        start(plain_settings(stage, looked[0]))


def composed(stage: str, overrides: list[str], *, folder: str = "") -> Any:
    """Composes the settings of one run, and runs nothing that they name.

    Args:
        stage: Name of the stage with underscores.
        overrides: Settings as on the command line.
        folder: One more folder of YAML files, or "".

    Returns:
        Hydra's composition, for `plain_settings`.

    Raises:
        Refusal: If they do not compose, or a YAML file names code.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    if folder and not Path(folder).is_dir():
        raise Refusal(f"{_ONE_MORE_FOLDER} {folder} is not a folder; name one of YAML files")
    more = [f"hydra.searchpath=['file://{Path(folder).resolve()}']"] if folder else []
    with (
        _in_one_line(stage, *_UNPARSABLE),
        initialize_config_dir(version_base="1.3", config_dir=str(configs_folder())),
    ):
        values = compose(stage, overrides=overrides + more, return_hydra_config=True)
        _refuse_code(stage, values)
        HydraConfig.instance().set_config(values)
    return values


def settings_of(stage: str, overrides: list[str]) -> dict[str, Any]:
    """Composes the settings of one run into plain values, as `composed`."""
    return plain_settings(stage, composed(stage, overrides))


def plain_settings(stage: str, values: Any) -> dict[str, Any]:
    """Turns a composition into a plain dictionary of this stage's settings.

    Args:
        stage: Name of the stage with underscores.
        values: The composition.

    Raises:
        Refusal: If a value is missing.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import (
        InterpolationKeyError,
        InterpolationToMissingValueError,
        MissingMandatoryValue,
        OmegaConfBaseException,
    )

    plain, missing = {}, []
    for name in values:
        if name in (*GROUPS, "hydra"):
            continue
        try:
            value = values[name]
            plain[name] = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        except (InterpolationToMissingValueError, MissingMandatoryValue):
            missing.append(str(name))
        except InterpolationKeyError:
            # The preset has no such entry; the check of the settings names the cause.
            continue
        except OmegaConfBaseException as error:
            raise Refusal(f"{stage}.yaml: {_one_line(error)}") from error
    if missing:
        raise Refusal(
            f"{stage}.yaml: no value for {', '.join(missing)};"
            f" give it as {' '.join(f'{name}=...' for name in missing)}"
        )
    return plain


def shown(stage: str) -> dict[str, Any]:
    """Returns what every setting is before anything is given; None where it must be."""
    from omegaconf import OmegaConf

    values = composed(stage, [])
    found = {name: OmegaConf.select(values, str(name)) for name in values if name != "hydra"}
    return {
        str(name): OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        for name, value in found.items()
    }


def _told_apart(arguments: list[str]) -> tuple[list[str], list[str], str]:
    """Overrides, flags, and the folder of --config-dir ("" if there is none).

    Hydra has more flags; one of them, --experimental-rerun, runs what a pickle says.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(_ONE_MORE_FOLDER, "-cd", default="", dest="folder")
    parser.add_argument(*_MANY, action="append_const", const=_MANY[0], dest="flags")
    parser.add_argument("--resolve", action="append_const", const="--resolve", dest="flags")
    parser.add_argument("--cfg", "-c", action="append", dest="flags", choices=("job", "all"))
    parser.add_argument("--package", "-p", action="append", dest="flags")
    parser.add_argument("--info", "-i", action="append", dest="flags", nargs="?", const="all")
    try:
        known, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise Refusal(str(error).replace("argument ", "", 1)) from error
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        words = ["--help", _MANY[0], *_LOOKS, _ONE_MORE_FOLDER]
        near = difflib.get_close_matches(unknown[0], words, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(words)}"
        raise Refusal(f"unknown option '{unknown[0]}'; {hint}")
    bare = [word for word in rest if "=" not in word and not word.startswith("~")]
    if bare:
        raise Refusal(f"'{bare[0]}' is no setting; write settings as name=value")
    return rest, known.flags or [], known.folder


def _each(stage: str, overrides: list[str]) -> list[list[str]]:
    """The overrides of every run of a sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with _in_one_line(stage, *_UNPARSABLE):
        choices = [
            [f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()]
            if one.is_sweep_override()
            else [one.input_line or ""]
            for one in OverridesParser.create().parse_overrides(overrides)
        ]
    return [list(chosen) for chosen in itertools.product(*choices)]


def _refuse_code(stage: str, values: Any) -> None:
    """A YAML file holds values; nothing in it may be called, by Hydra or by its logging."""
    from omegaconf import OmegaConf

    for path, value in _leaves(OmegaConf.to_container(values, resolve=False)):
        theirs = path[0] == "hydra" and path[1] in ("launcher", "sweeper")
        if path[-1] == "_target_" and theirs and str(value).startswith(_HYDRAS_OWN):
            continue
        if {"_target_", "()"} & set(path) or path[:2] == ["hydra", "callbacks"]:
            raise Refusal(
                f"{stage}.yaml: '{'.'.join(path)}: {value}' names code to run; a YAML file holds"
                " values only: remove it"
            )
        if path[0] == "hydra" and path[1].endswith("_logging") and "handlers" in path:
            raise Refusal(
                f"{stage}.yaml: '{'.'.join(path)}' changes where logs go; they are the program's"
                " own: remove it"
            )


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[list[str], Any]]:
    """Every value that holds no others, with the names that lead to it."""
    parts: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in parts:
        here = (*path, str(name))
        if isinstance(part, dict | list) and part:
            yield from _leaves(part, here)
        elif part not in ({}, []):
            yield list(here), part


def _leave_to_hydra(
    stage: str, arguments: list[str], start: Callable[[dict[str, Any]], None]
) -> None:
    import hydra

    refusals: list[Refusal] = []
    here = os.getpid()

    def job(values: Any) -> None:
        # Kept for later: Hydra would print a line of its own above ours.
        try:
            start(plain_settings(stage, values))
        except Refusal as refusal:
            if os.getpid() != here:
                raise  # in a job of SLURM; its launcher brings it back to us
            refusals.append(refusal)

    # Hydra would print and exit by itself; the full error comes through to be said in one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [f"sem2ct {stage.replace('_', '-')}", *arguments]
    folder = str(configs_folder())
    with _in_one_line(stage):
        hydra.main(version_base="1.3", config_path=folder, config_name=stage)(job)()
    if refusals:
        raise refusals[0]


@contextlib.contextmanager
def _in_one_line(stage: str, *besides: type[Exception]) -> Iterator[None]:
    """Turns what Hydra says into a refusal; and what its parser trips over, if named."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    except Refusal:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError, *besides) as error:
        raise Refusal(f"{stage}.yaml: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    """The part of Hydra's message a user can act on."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cuts = ("Check that", "Config search path", "provider=", "full_key", "object_type", "See ")
    kept = [line for line in lines if not line.startswith(cuts)]
    return " ".join(kept).replace("\t", " ")
