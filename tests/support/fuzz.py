"""A seeded fuzzer: damaged inputs of many kinds, each of which is read well or refused in one line.

A kind is a function that is registered by name: it makes a case of a generator and writes it into an empty folder. Case
number N of a kind and seed is always the same, whatever was tried before. `python benchmarks/fuzz.py` tries many.
"""

import dataclasses
import json
import pathlib
import random
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from selw2s_jax.errors import UserError

_SECONDS = 20  # after which a case hangs
_MOST_TOLD = 2000  # characters of a fault


@dataclasses.dataclass(frozen=True)
class Case:
    """A damaged input.

    Attributes:
        what: was done to it, for people.
        read: reads it, from its files if it has any.
        check: raises AssertionError where what `read` returned is not sound, so that nothing is accepted in silence.
    """

    what: str
    read: Callable[[], Any]
    check: Callable[[Any], None] = lambda found: None


# By name: (generator, an empty folder) -> a case.
KINDS: dict[str, Callable[[random.Random, pathlib.Path], Case]] = {}


def register(name: str):
    """Registers a kind of cases; a decorator."""

    def add(make):
        assert name not in KINDS
        KINDS[name] = make
        return make

    return add


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a case: "read", "refused", or a fault, with what happened."""

    number: int
    ending: str
    told: str = ""


def run(name: str, numbers: range, *, seed: int = 0) -> Iterator[Outcome]:
    """The outcomes of cases of a kind, by their numbers."""
    for number in numbers:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            generator = random.Random(f"{seed}/{name}/{number}")
            yield _try(number, KINDS[name](generator, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def faults(name: str, numbers: range, *, seed: int = 0) -> list[str]:
    """The cases that end neither way, each with how to see it again."""
    return [
        f"{name} {one.number} (seed {seed}): {one.ending}: {one.told}"
        for one in run(name, numbers, seed=seed)
        if one.ending not in ("read", "refused")
    ]


class _HangsError(BaseException):
    """No `Exception`, which what is tried might catch."""


def _try(number: int, case: Case) -> Outcome:
    def stop(*_):
        raise _HangsError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        found = case.read()
        case.check(found)
    except UserError as error:
        if "\n" in str(error) or not str(error).strip():
            return Outcome(number, "a refusal of several lines", f"{case.what}: {str(error)[:_MOST_TOLD]!r}")
        return Outcome(number, "refused", str(error))
    except AssertionError as error:
        return Outcome(number, "accepted in silence", f"{case.what}: {str(error)[:_MOST_TOLD]}")
    except _HangsError:
        return Outcome(number, f"no end in {_SECONDS} s", case.what)
    except BaseException as error:  # what is not ours, such as a library that panics, is a fault too
        told = "".join(traceback.format_exception(error))
        return Outcome(number, type(error).__name__, f"{case.what}: {told[-_MOST_TOLD:]}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    return Outcome(number, "read")


# What kinds have in common.

NASTY = (
    None, True, False, 0, 1, -1, 2, 3.0, 0.5, float("nan"), float("inf"), -0.0, 1e308, 10**30, "", " ", "0", "1", "1.0",
    "nan", "A", "b", "\x1b[31m", "\u202ea", "\ufeff", "\ud800", "a\nb", '"', "'", ",", ";", "=1", "#### 4", "x" * 5000,
    "\U0001f600", "null", "[1", "{}", [], {}, [None], [[]], ["a"], ["a", "a"], ["a", "A"], ["a", "b"], {"text": ["a"]},
    {"text": ["a", "b"], "label": ["A"]}, {"text": "ab", "label": "AB"}, [{"text": "a"}, {"text": "b"}],
)  # fmt: skip


def damage_values(generator: random.Random, values: dict[str, Any]) -> dict[str, Any]:
    """A row or other mapping with a value that is another, is gone, or has another name."""
    damaged = dict(values)
    name = generator.choice(list(damaged))
    match generator.randrange(6):
        case 0:
            del damaged[name]
        case 1:
            damaged[generator.choice((name.upper(), f" {name}", f"{name}s", ""))] = damaged.pop(name)
        case 2:
            damaged[generator.choice(("note", "", "label", "text", "answer"))] = generator.choice(NASTY)
        case _:
            damaged[name] = generator.choice(NASTY)
    return damaged


_PUT_IN = (b"\0", b"\xff", b'"', b"\n", b"\r", b"\xef\xbb\xbf", b"[" * 3000, b"\x1b[2J", b",", b"}")


def damage_bytes(generator: random.Random, content: bytes) -> bytes:
    """A file's bytes with some of them changed, cut off, put in or repeated."""
    if not content:
        return content
    place = generator.randrange(len(content))
    length = generator.randrange(1, 9)
    match generator.randrange(5):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + generator.randbytes(length) + content[place + length :]
        case 2:
            return content[:place] + generator.choice(_PUT_IN) + content[place:]
        case 3:
            return content[:place] + content[place : place + 40] * 2 + content[place + 40 :]
        case _:
            return content[:place] + content[place + length :]


def damage_json(generator: random.Random, value: Any) -> Any:
    """A JSON value with one value in it, at any depth, that is another, is gone, is there twice or has another name."""
    if not isinstance(value, dict | list) or not value:
        return _another(generator, value)
    places = list(value) if isinstance(value, dict) else range(len(value))
    place = generator.choice(places)
    damaged = value.copy()
    if isinstance(value[place], dict | list) and generator.random() < 0.8:
        damaged[place] = damage_json(generator, value[place])
        return damaged
    match generator.randrange(8):
        case 0:
            del damaged[place]
        case 1 if isinstance(value, dict):
            damaged[generator.choice((place.upper(), f"{place}s", "", "\ud800"))] = damaged.pop(place)
        case 1:
            damaged.append(damaged[place])
        case 2:
            damaged[place] = value[generator.choice(places)]
        case _:
            damaged[place] = _another(generator, value[place])
    return damaged


def _another(generator: random.Random, value: Any) -> Any:
    """A value in the place of one: of the same kind now and then."""
    if type(value) in (int, float) and generator.random() < 0.6:
        return generator.choice(
            (-value, value + 1, value - 1, value * 2, value / 2, str(value), value * 10**12)
        )
    if isinstance(value, bool) and generator.random() < 0.5:
        return not value
    return generator.choice(NASTY)


def damage_folder(generator: random.Random, folder: pathlib.Path) -> str:
    """Does one thing to a file below a folder, which may be a JSON value's, of bytes or of names; what was done."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    path = generator.choice(paths)
    name, others = path.relative_to(folder), [one for one in paths if one != path]
    match generator.randrange(12):
        case 0:
            path.unlink()
            return f"{name} removed"
        case 1 if others:
            other = generator.choice(others)
            content = path.read_bytes()
            path.write_bytes(other.read_bytes())
            other.write_bytes(content)
            return f"{name} and {other.relative_to(folder)} swapped"
        case 2:
            path.unlink()
            match generator.randrange(3):
                case 0:
                    path.mkdir()
                case 1:
                    path.symlink_to(path.name)
                case _:
                    path.symlink_to("nowhere")
            return f"{name} is a folder or a link"
        case 3:
            path.write_bytes(
                generator.choice((b"", b"{}", b"[]", b"null", b"\0" * 40, b"[" * 100_000, b"NaN", b"\xff"))
            )
            return f"{name} is another"
        case 4 | 5 | 6:
            path.write_bytes(damage_bytes(generator, path.read_bytes()))
            return f"{name} damaged in bytes"
        case _:
            return f"{name} {damage_json_file(generator, path)}"


def damage_json_file(generator: random.Random, path: pathlib.Path) -> str:
    """Damages a JSON file in a few of its values, another file in its bytes; what was done."""
    content = path.read_bytes()
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        path.write_bytes(damage_bytes(generator, content))
        return "damaged in bytes"
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        value = damage_json(generator, value)
    path.write_text(json.dumps(value))
    return "damaged in values"
