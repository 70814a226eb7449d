"""What an installation brings along: its version, and the configs that are found from anywhere by their names."""

import difflib
import pathlib
import sys

from selw2s_jax.errors import UserError

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
_FOLDER = "configs"


def version() -> str:
    """Of the package as it is imported; the metadata of an installation that is edited in place may be older."""
    return sys.modules[__name__.partition(".")[0]].__version__  # there, as this module of it is


def configs() -> dict[str, pathlib.Path]:
    """The shipped configs by name: those in the wheel, or the repository's where the package lies in it."""
    folder = _PACKAGE / _FOLDER
    if not folder.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file():
        folder = _PACKAGE.parent / _FOLDER
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def called(path: str) -> str:
    """The name of the shipped config that is at this place, wherever it is installed; of other files their path."""
    return next((name for name, at in configs().items() if str(at) == path), path)


def find_config(path: str) -> pathlib.Path:
    """The file of a config: the user's own at that path, else the shipped one that is called so.

    Args:
        path: a file, or the name of a shipped config, as "qwen" or "configs/qwen.py".

    Raises:
        UserError: neither is there.
    """
    if pathlib.Path(path).is_file():
        return pathlib.Path(path)
    shipped = configs()
    if path in shipped:
        return shipped[path]
    asked = pathlib.PurePath(path)
    if asked.parent == pathlib.PurePath(_FOLDER) and asked.suffix == ".py" and asked.stem in shipped:
        print(f"note: {path} is not in this folder: the shipped one is taken", file=sys.stderr)
        return shipped[asked.stem]
    near = difflib.get_close_matches(asked.stem, shipped, n=1)
    hint = f"did you mean --config={near[0]}? " if near else ""
    raise UserError(
        f"config file {path} is not there; {hint}the shipped ones, by name from anywhere: {', '.join(shipped)}"
    )
