"""Writes docs/config.md, the page of all keys of the config, from the defaults and the comments beside them.

python docs/config_page.py
"""

import ast
import dataclasses
import inspect
import io
import pathlib
import re
import tokenize

import ml_collections

from selw2s_jax import config as config_lib

PAGE = pathlib.Path(__file__).with_name("config.md")
_HEAD = """# Every key of the config

Each can be set in a config file (`config.training.epochs = 1`) or on the command line (`--config.training.epochs=1`,
lists with commas: `--config.methods=finetune,selective`). These are the defaults; a config file starts from them and
changes some. `null` is no value, written `None`; only keys that are null by default may have none. What else a key
may be stands beside it. A wrong key or value ends a command before any work, with a line that says what there is.

`python docs/config_page.py` makes this page of `selw2s_jax/defaults/`, a file there for each heading here.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for kind in config_lib._KINDS:
        parts.append(f"\n## {kind.__doc__.splitlines()[0].rstrip('.')}\n")
        for name, section in _sections(inspect.getsource(kind)).items():
            if name:
                parts.append(f"### {name}\n")
            if section.about:
                parts.append(f"{_sentence(section.about)}\n")
            parts.append(_table(section.keys))
    return "\n".join(parts)


@dataclasses.dataclass
class _Section:
    """Keys with what is said of each, and of all of them."""

    about: str = ""
    keys: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def _sections(source: str) -> dict[str, _Section]:
    """Those of one file of defaults in their order; keys without a section are in that of the name ""."""
    comments, lines = _comments(source), source.splitlines()
    found: dict[str, _Section] = {}
    functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    for statement in (one for function in functions for one in _assignments(function.body)):
        value, above = statement.value, _above(statement, comments, lines)
        for name in _names(_path(statement)):
            if not _is_section(value):
                said = _joined(above, comments.get(statement.end_lineno, ""))
                found.setdefault(name.rpartition(".")[0], _Section()).keys.append((name, said))
                continue
            section = found.setdefault(name, _Section())
            in_one_line = statement.lineno == statement.end_lineno
            beside = "" if in_one_line else comments.get(statement.lineno, "")
            section.about = _joined(section.about, above, beside)
            section.keys += _keys(name, value, comments, lines)
    return found


def _is_section(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") == "dict"


def _joined(*said: str) -> str:
    """Comments one after the other, as sentences or parts of one."""
    first, *others = [one for one in said if one] or [""]
    for one in others:
        first += f" {one}" if first.endswith((".", ":", ";")) else f"; {one}"
    return first


def _assignments(body: list[ast.stmt]) -> list[ast.Assign]:
    inside = [statement for one in body for statement in (one.body if isinstance(one, ast.For) else [one])]
    return [one for one in inside if isinstance(one, ast.Assign) and _path(one).startswith("config")]


def _path(statement: ast.Assign) -> str:
    return ast.unparse(statement.targets[0])


def _names(path: str) -> list[str]:
    """The keys that `config.section` names; `config[role]` those of both models."""
    name = path.removeprefix("config.")
    return ["weak", "strong"] if name == "config[role]" else [name]


def _keys(section: str, value: ast.Call, comments, lines: list[str]) -> list[tuple[str, str]]:
    found = []
    for keyword, following in zip(value.keywords, [*value.keywords[1:], None], strict=True):
        name = f"{section}.{keyword.arg}"
        if _is_section(keyword.value):
            found += _keys(name, keyword.value, comments, lines)
            continue
        end = keyword.value.end_lineno
        is_last = (
            following is None or following.lineno > end
        )  # of its line, whose comment is about the last key
        said = _joined(_above(keyword, comments, lines), comments.get(end, "") if is_last else "")
        found.append((name, said))
    return found


def _comments(source: str) -> dict[int, str]:
    """Text of the comment in each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {one.start[0]: one.string.lstrip("# ") for one in tokens if one.type == tokenize.COMMENT}


def _above(node: ast.stmt | ast.keyword, comments, lines: list[str]) -> str:
    """The lines of comment right above a node that begins its line."""
    number, said = node.lineno - 1, []
    if lines[node.lineno - 1][: node.col_offset].strip():
        return ""
    while number in comments and lines[number - 1].lstrip().startswith("#"):
        said.insert(0, comments[number])
        number -= 1
    return " ".join(said)


def _table(keys: list[tuple[str, str]]) -> str:
    config = config_lib.default_config()
    rows = ["| key | default | |", "|---|---|---|"]
    rows += [
        f"| `{name}` | {_default(name, config_lib.get(config, name))} | {_cell(said)} |"
        for name, said in keys
    ]
    return "\n".join(rows) + "\n"


def _default(name: str, value) -> str:
    if value is None:
        return f"null ({config_lib.type_of(name).__name__})"
    if isinstance(value, (tuple, list)):
        return f"`{','.join(map(str, value))}`" if value else "empty"
    if isinstance(value, ml_collections.ConfigDict):  # of free keys
        return "empty"
    return f"`{value}`" if value != "" else '`""`'


def _cell(said: str) -> str:
    return re.sub(r"([|<])", r"\\\1", " ".join(said.split()))


def _sentence(said: str) -> str:
    """With a capital, unless it begins with the name of a key."""
    if re.match(r"\w+ ", said):
        said = said[0].upper() + said[1:]
    return said if said.endswith((".", ":")) else f"{said}."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
