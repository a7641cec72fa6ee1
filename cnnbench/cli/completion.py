"""Shell completion: `cnnbench -sc query=SHELL` prints the words that can stand at the cursor.

The scripts that `cnnbench -sc install=SHELL` installs are Hydra's and call this command. Hydra's
completion takes a command for an override, and knows neither directories nor allowed values. This
module does not import PyTorch.
"""

import gc
import io
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, suppress
from fnmatch import fnmatch
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from cnnbench import config
from cnnbench.cli.again import AGAIN_OVERRIDES
from cnnbench.cli.hydra_app import compose_config, conf_folder
from cnnbench.cli.hydra_options import CFG_PARTS
from cnnbench.cli.options import EXPORT_FORMATS, PARSERS
from cnnbench.cli.parser import INFO_TOPICS
from cnnbench.cli.reproduce import MACHINE_KEYS, PARTS
from cnnbench.cli.run_argument import LATEST
from cnnbench.config.fields import allowed_by
from cnnbench.config.overrides import HINTS
from cnnbench.data.catalog import CATALOG
from cnnbench.runs.directory import STATUS

__all__ = ["VALUES", "print_completions"]

MAX_ENTRIES = 5_000  # files and folders searched for runs; then all folders are offered
PLAIN = re.compile(r"[\w%+,./=~-]*")  # in other words the bash script would run $(...)


def print_completions(shell: str, commands: Collection[str]) -> None:
    """Print the completions of COMP_LINE in the form that Hydra's script for `shell` reads.

    Errors are not printed: they would end up in the command line.
    """
    line, point = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_POINT", "")
    found: set[str] = set()
    gc.disable()  # composing leaves no garbage to collect
    with redirect_stderr(io.StringIO()), suppress(Exception, KeyboardInterrupt):
        typed = line[: int(point)] if point else line
        found.update(_complete(typed, commands))  # keeps what was found before an error
    gc.enable()
    if shell == "fish":
        print(*(f"{word}\n" for word in sorted(found)), sep="", end="")
    else:
        print(*sorted(filter(PLAIN.fullmatch, found)))


def _complete(typed: str, commands: Collection[str]) -> Iterator[str]:
    """Yield the words that can replace the last word of a line, which ends at the cursor."""
    words = re.sub("['\"]", "", typed).split()
    if typed[-1:].isspace():
        words.append("")
    if len(words) < 2:
        return
    *before, word = words[1:]
    command = before[0] if before and before[0] in commands else "train"
    flags = _list_flags(command)
    flag, equals, value = word.partition("=")
    prefix = f"{flag}=" if equals and flag in flags else ""
    if prefix:
        before, word = [*before, flag], value
    words = [word_before for flag, word_before in pairwise(["", *before]) if not flags.get(flag)]
    num_words = sum(not word_before.startswith("-") for word_before in words)
    is_first = num_words == 1  # the only word before is the command
    found: Iterable[str]
    metavar = flags.get(before[-1]) if before else ""
    if metavar in ("DIR", "FILE"):
        found = _find_paths(word)
    elif metavar:
        found = VALUES.get(before[-1], ())
    elif word.startswith("-"):
        found = flags
    elif command == "report" or (command in TAKE_RUN and is_first):
        found = _find_runs(word)
    else:
        found = chain(() if before else commands, _complete_place(command, before, word))
    yield from (prefix + offer for offer in found if offer.startswith(word))


def _list_flags(command: str) -> dict[str, str]:
    """Return the options in the help of a command, each with the name of its value or ""."""
    parser = PARSERS[command]()
    options = [*parser.options, *(parser.hydra.options if parser.hydra else ())]
    labels = [label.partition(" ") for label, _ in options]
    return {"--help": "", **{flag: metavar for flag, _, metavar in labels}}


def _complete_place(command: str, before: Sequence[str], word: str) -> Iterator[str]:
    """Yield the names, overrides and files that may follow the words `before`."""
    if command == "data" and any(word_before.startswith("--show") for word_before in before):
        command = "summary"  # which takes the same overrides
    yield from NAMES.get(command, ())
    if command in ALLOWED:
        yield from _complete_override(command, before, word)
    if command == "predict":
        yield from _find_paths(word)


def _find_paths(word: str) -> Iterator[str]:
    """Yield the files and folders, with a slash after a folder, in the folder that a word names."""
    parent = word[: word.rfind("/") + 1]
    for entry in os.scandir(Path(parent).expanduser()):
        if not entry.name.startswith(".") or word.removeprefix(parent).startswith("."):
            yield f"{parent}{entry.name}/" if entry.is_dir() else f"{parent}{entry.name}"


def _find_runs(word: str) -> Iterator[str]:
    """Yield run directories, and folders with run directories below them."""
    yield LATEST
    entries = iter(range(MAX_ENTRIES))
    for path in _find_paths(word):
        folder = Path(path).expanduser()
        if os.access(folder / STATUS, os.F_OK):
            yield path.removesuffix("/")
        elif path.endswith("/") and _leads_to_run(folder, entries):
            yield path


def _leads_to_run(folder: Path, entries: Iterator[int]) -> bool:
    """Return whether a folder has a run below, or more entries than may be searched."""
    parents = [folder]
    for parent in parents:
        if os.access(parent / STATUS, os.F_OK):
            return True
        with suppress(OSError), os.scandir(parent) as found:
            for entry, _ in zip(found, entries, strict=False):
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    parents.append(parent / entry.name)
    return next(entries, None) is None


def _complete_override(command: str, before: Sequence[str], word: str) -> Iterator[str]:
    """Yield the groups, keys up to the next dot, or values that the command takes."""
    allowed = ALLOWED[command]
    name = word.lstrip("+~")
    sign = word[: len(word) - len(name)]
    key, equals, typed = name.partition("=")
    if equals:
        first_values, comma, last = typed.rpartition(",")  # a sweep has several values
        if any(fnmatch(key, pattern) for pattern in allowed):
            values = _list_values(command, before, key, last)
            yield from (f"{sign}{key}={first_values}{comma}{value}" for value in values)
        return
    if name.startswith("hydra/") and allowed is ANY:
        yield from (f"{sign}hydra/{group}=" for group in _list_hydra("hydra"))
    elif allowed is ANY:
        yield from (f"{sign}hydra/", f"{sign}hydra.")
    keys: Iterable[str] = config.KEYS
    if allowed is ANY and "." in name:
        composed: Any = OmegaConf.to_container(_compose(command, before))
        keys = config.flatten(composed)
    for full_key in (*config.GROUPS, *keys):
        if full_key.startswith(name) and any(fnmatch(full_key, pattern) for pattern in allowed):
            part, dot, _ = full_key[len(name) :].partition(".")
            yield sign + name + part + (dot or "=")


def _list_values(command: str, before: Sequence[str], key: str, typed: str) -> Iterable[str]:
    """Return the choices of a group, or the allowed values or the present value of a key."""
    if key in config.GROUPS:
        folders = [folder / key for folder in (conf_folder(), *_find_config_dirs(before))]
        files = [path.relative_to(folder) for folder in folders for path in folder.rglob("*.yaml")]
        return [file.with_suffix("").as_posix() for file in files]
    if key.startswith("hydra/"):
        return _list_hydra(key)
    if key in ("data.path", "data.root", "model.weights") or typed.startswith((".", "/", "~")):
        return _find_paths(typed)
    allowed = allowed_by(HINTS.get(key, str))
    if allowed.choices or bool in allowed.kinds:
        return [*allowed.choices, *(BOOLEANS if bool in allowed.kinds else ())]
    value = OmegaConf.select(_compose(command, before), key) if ALLOWED[command] is ANY else None
    if isinstance(value, bool):
        return BOOLEANS
    return [str(value)] if isinstance(value, (int, float, str)) else []


def _list_hydra(group: str) -> list[str]:
    """Return the choices of a group such as hydra/launcher or, for "hydra", these groups."""
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return loader.list_groups(group) or loader.get_group_options(group)


def _compose(command: str, before: Sequence[str]) -> DictConfig:
    """Compose the configuration with the choices typed so far; for a sweep, its first job."""
    choices = [word for word in before if _is_choice(word)]
    words = [word if "[" in word else word.partition(",")[0] for word in choices]
    paths = [f"file://{folder.absolute()}" for folder in _find_config_dirs(before)]
    return compose_config([*words, f"hydra.searchpath={paths}"], command)


def _is_choice(word: str) -> bool:
    """Return whether a word chooses from a group. The keys depend on these choices."""
    group, equals, _ = word.lstrip("+").partition("=")
    return bool(equals) and (group in config.GROUPS or group.startswith("hydra/"))


def _find_config_dirs(before: Sequence[str]) -> list[Path]:
    return [Path(folder) for flag, folder in pairwise(before) if flag == "--config-dir"]


VALUES: dict[str, Iterable[str]] = {
    "--cfg": CFG_PARTS,
    "--format": EXPORT_FORMATS,
    "--info": INFO_TOPICS,
    "--scale": ("full", "pixels", "smoke"),
}
NAMES = {"data": CATALOG, "reproduce": PARTS}
TAKE_RUN = ("resume", "again", "evaluate", "predict", "inspect", "export")

ANY = ("*",)
BOOLEANS = ["false", "true"]
# Patterns of the keys that each command can override.
ALLOWED = {
    **dict.fromkeys(("train", "summary", "benchmark", "lr-find", "gradcheck"), ANY),
    **dict.fromkeys(("evaluate", "predict", "inspect"), config.INFERENCE_OVERRIDES),
    "resume": config.RESUME_OVERRIDES,
    "again": AGAIN_OVERRIDES,
    "reproduce": MACHINE_KEYS,
}
