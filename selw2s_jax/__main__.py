"""All commands as one: `selw2s COMMAND ...`, or `python -m selw2s_jax COMMAND ...`.

A command is the module that `python -m selw2s_jax.<module>` runs, with the same flags.
"""

import difflib
import importlib
import sys
from typing import NamedTuple, NoReturn

import selw2s_jax


class _Command(NamedTuple):
    module: str
    what: str


COMMANDS = {
    "run": _Command("main", "run the experiment of a config, or go on with it"),
    "report": _Command("report.__main__", "one page, tables and pictures of runs"),
    "predict": _Command("predict.__main__", "ask a trained student your own questions"),
    "export": _Command("export.__main__", "write a trained model as a Hugging Face folder"),
    "plan": _Command(
        "plan.__main__", "does a run fit on machines that are not here, and how long does it take?"
    ),
    "benchmark": _Command("benchmark.__main__", "how fast is it on the devices at hand?"),
    "replay": _Command("replay.__main__", "a finished run's labels under other settings, without training"),
    "preregister": _Command("preregister.__main__", "fix what a study compares before it is run"),
}


def main(argv: list[str] | None = None) -> None:
    """The command that the first argument names: of this process, or with other arguments."""
    first, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if first in ("--help", "-help", "-h", "help"):
        print(_help())
    elif first in ("--version", "-version"):
        print(f"selw2s_jax {selw2s_jax.__version__}")
    elif first in COMMANDS:
        command = importlib.import_module(f"selw2s_jax.{COMMANDS[first].module}")
        if argv is None:
            sys.argv = [f"selw2s {first}", *rest]
            command.main()
        else:
            command.main(rest)
    else:
        _refuse(first)


def _help() -> str:
    lines = [f"  {name.ljust(12)} {command.what}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: selw2s COMMAND [--flag=value ...]",
            "",
            "Selective weak-to-strong generalization (arXiv 2511.14166) in JAX and Flax NNX.",
            "",
            "commands:",
            *lines,
            "",
            "selw2s COMMAND --help says more of each; selw2s --version says the version.",
        ]
    )


def _refuse(first: str) -> NoReturn:
    if not first:
        said = "no command is given"
    elif first.startswith("-"):
        said = f"a command comes before flags, as selw2s run {first!a}".replace("'", "")
    else:
        near = difflib.get_close_matches(first, COMMANDS, n=1, cutoff=0.5)
        said = f"{first!a} is no command" + (f"; did you mean {near[0]}?" if near else "")
    print(f"error: {said}; there are {', '.join(COMMANDS)}; see selw2s --help", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
