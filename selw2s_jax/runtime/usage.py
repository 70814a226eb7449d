"""What a command says of itself, for `--help`: how it is called and what it does, by its docstring, and its flags.

absl's own flags, some eighty, are left out; `--helpfull` lists them.
"""

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from absl import flags

HELP = ("--help", "-help", "-h")
VERSION = ("--version", "-version")
# The words of `selw2s`, where they are not the module's name.
WORDS = {"main": "run"}
_WIDTH = 100
_COLUMN = 26
_CALL = re.compile(r"python -m selw2s_jax\.(\w+) (.*)", re.DOTALL)
_FLAG = re.compile(r"--(\w+)(?![\w.])(?:=([^\s\[\]]+))?")


def asked_for(arguments: Sequence[str], words: Sequence[str]) -> bool:
    """Whether one of these words is among the arguments, before a bare `--`."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(word in before for word in words)


def describe(document: str, values: flags.FlagValues) -> str:
    """The help of a command.

    Args:
        document: docstring of its module: a sentence, how it is called (a line for each way, optional flags in
            brackets), and more.
        values: its flags, as they are defined.
    """
    parts = [part for part in document.strip().split("\n\n") if part]
    call = next(part for part in parts if _CALL.match(part))
    whole = " ".join(call.replace("\\\n", " ").split())
    ways = [_CALL.match(way).groups() for way in re.split(r" (?=python -m )", whole)]
    name = ways[0][0]
    shown: dict[str, str] = {}
    for _, arguments in ways:
        shown = dict(_FLAG.findall(arguments)) | shown
    in_all = [{flag for flag, _ in _FLAG.findall(_without_brackets(arguments))} for _, arguments in ways]
    needed = [flag for flag in shown if flag in values and all(flag in one for one in in_all)]
    others = [flag for flag in values if flag not in needed]
    lines = [*(_usage(f"selw2s {WORDS.get(name, name)}", arguments) for _, arguments in ways), ""]
    lines += [f"{textwrap.fill(part, _WIDTH)}\n" for part in parts if part != call]
    for title, names in (("required", needed), ("options", others)):
        if names:
            lines += [f"{title}:", *(_describe(values[flag], shown.get(flag)) for flag in names)]
    if "config" in values:
        lines.append(
            _entry("--config.KEY=VALUE", "Any key of the config, after --config; lists with commas.")
        )
    lines += [_entry("--help, --version", "Say this, or the version."), ""]
    return "\n".join([*lines, f"The same: python -m selw2s_jax.{name}"])


def _without_brackets(text: str) -> str:
    while (shorter := re.sub(r"\[[^\[\]]*\]", "", text)) != text:
        text = shorter
    return text


def _usage(command: str, arguments: str) -> str:
    # What is in brackets stays in one line.
    held = re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", "\0"), arguments)
    start = f"usage: {command} "
    lines = textwrap.wrap(
        start + held,
        _WIDTH,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
        break_long_words=False,
    )
    return "\n".join(lines).replace("\0", " ")


def _describe(flag: flags.Flag, placeholder: str | None) -> str:
    spelled = f"--{flag.name}" if flag.boolean else f"--{flag.name}={_placeholder(flag, placeholder)}"
    said = " ".join((flag.help or "").split())
    said = re.sub(r"^<[^>]*>: |; repeat this option to specify a list of values$", "", said)  # absl's words
    if flag.default not in (None, False, []):
        default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
        said += f" (default {default})"
    return _entry(spelled, said)


def _placeholder(flag: flags.Flag, shown: str | None) -> str:
    if flag.name == "config":
        return "FILE[:ARGUMENTS]"
    choices: Any = getattr(flag.parser, "enum_values", None)
    if choices:
        return "|".join(choices)
    if shown and shown.isupper():
        return shown
    return {"int": "N", "float": "X", "comma separated list of strings": "A,B"}.get(flag.flag_type(), "TEXT")


def _entry(spelled: str, said: str) -> str:
    first = f"  {spelled}".ljust(_COLUMN)
    apart = len(first) > _COLUMN or not first.endswith(" ")
    lines = textwrap.wrap(said, _WIDTH, initial_indent=" " * _COLUMN, subsequent_indent=" " * _COLUMN)
    if apart:
        return "\n".join([first.rstrip(), *lines])
    return "\n".join([first + lines[0].lstrip(), *lines[1:]])
