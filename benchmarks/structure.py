"""Counts how the package is laid out, for one checkout or several side by side.

    python benchmarks/structure.py [CHECKOUT ...]      default: the checkout that this file lies in

Imports are read from the sources; a room is a folder or a module of the package's top, and its floor is one more than
the highest that it imports. Frames are those of a run at toy size, at the moment that it calls the train step.
"""

import ast
import os
import pathlib
import subprocess
import sys
import tempfile

PACKAGE = "selw2s_jax"
_COLUMN = "given_p_ik"  # a label column, for the number of files that know one by name

# Wraps the compiled step in a function that prints who called it, and ends the run.
_FRAMES = """
import os, sys, traceback
from ml_collections import config_dict
from selw2s_jax import config as config_lib
from selw2s_jax.training import step

def make_train_step(*_, **__):
    def train_step(*_, **__):
        files = [frame.filename for frame in traceback.extract_stack() if "/selw2s_jax/" in frame.filename]
        print("frames", len(files) + 1, len({*files, step.__file__}))  # the step itself is the last one
        sys.stdout.flush()
        os._exit(0)
    return train_step

step.make_train_step = make_train_step
config = config_lib.default_config()
config_lib.smoke_settings(config, weak="random-tiny-gpt2", strong="random-tiny-gpt2")
config.data.num_train = 64
config.methods = ("finetune",)
try:
    from selw2s_jax.run import pipeline
except ImportError:
    from selw2s_jax import pipeline

def main():
    pipeline.run(config, sys.argv[1])

main()
"""


class Checkout:
    """The sources of a checkout."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        root = folder / PACKAGE
        self.sources = {
            ".".join(
                part for part in path.relative_to(root).with_suffix("").parts if part != "__init__"
            ): path
            for path in sorted(root.rglob("*.py"))
        }
        self.trees = {name: ast.parse(path.read_text()) for name, path in self.sources.items()}
        self.imports = {name: self._internal(tree) for name, tree in self.trees.items()}

    def _internal(self, tree: ast.Module) -> set[str]:
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
                for alias in node.names:
                    name = f"{node.module}.{alias.name}".partition(".")[2]
                    while name not in self.sources:
                        name = name.rpartition(".")[0]
                    found.add(name)
        return found - {""}

    def floors(self) -> dict[str, int]:
        """The floor of each room; 0 for those in a circle or above one."""
        rooms: dict[str, set[str]] = {}
        for module, others in self.imports.items():
            if module:
                room = module.split(".")[0]
                rooms.setdefault(room, set()).update(other.split(".")[0] for other in others)
        rooms = {room: others - {room} for room, others in rooms.items()}
        floors: dict[str, int] = {}
        while free := [r for r in rooms if r not in floors and rooms[r] <= floors.keys()]:
            floors |= {room: 1 + max((floors[other] for other in rooms[room]), default=0) for room in free}
        return dict.fromkeys(rooms, 0) | floors

    def closure(self, module: str) -> set[str]:
        """A module and all that it imports."""
        seen, left = set(), [module]
        while left:
            if (name := left.pop()) not in seen:
                seen.add(name)
                left += self.imports[name]
        return seen

    def lines(self, modules) -> int:
        return sum(len(self.sources[name].read_text().splitlines()) for name in modules)

    def longest(self, kind) -> str:
        """The longest class or function: lines and name."""
        sizes = [
            (node.end_lineno - node.lineno + 1, node.name)
            for tree in self.trees.values()
            for node in ast.walk(tree)
            if isinstance(node, kind)
        ]
        return "{} ({})".format(*max(sizes))

    def frames(self) -> str:
        """Frames and files from the run's first function to the train step."""
        with tempfile.TemporaryDirectory() as workdir:
            environment = os.environ | {"PYTHONPATH": str(self.folder), "HF_HUB_OFFLINE": "1"}
            command = [sys.executable, "-c", _FRAMES, workdir]
            ended = subprocess.run(command, env=environment, cwd=workdir, capture_output=True, text=True)
        line = next((line for line in ended.stdout.splitlines() if line.startswith("frames")), None)
        if line is None:
            return f"not found: {ended.stderr.strip().splitlines()[-1:]}"
        # `main` is the one frame and file that stands before the pipeline's.
        frames, files = (int(number) + 1 for number in line.split()[1:])
        return f"{frames} frames, {files} files"

    def rows(self) -> dict[str, str]:
        floors = self.floors()
        root = self.folder / PACKAGE
        report = self.closure("report.__main__" if "report.__main__" in self.sources else "report")
        knowing = [name for name, path in self.sources.items() if _COLUMN in path.read_text()]
        top = [name for name in self.sources if self.sources[name].parent == root]
        folders = [path for path in root.iterdir() if (path / "__init__.py").is_file()]
        longest = max(self.sources, key=lambda name: self.lines([name]))
        return {
            "modules at the top, folders": f"{len(top)}, {len(folders)}",
            "floors by room": _describe(list(floors.values())),
            "from `main` to the train step": self.frames(),
            "longest class": self.longest(ast.ClassDef),
            "longest function": self.longest(ast.FunctionDef),
            "longest file": f"{self.lines([longest])} ({longest})",
            "files, lines": f"{len(self.sources)}, {self.lines(self.sources):,}",
            "what `report` imports": f"{len(report)} files, {self.lines(report):,} lines",
            f"files that name the label column `{_COLUMN}`": str(len(knowing)),
        }


def _describe(floors: list[int]) -> str:
    without = floors.count(0)
    above = f", and {without} rooms in a circle or above one" if without else ""
    return f"{max(floors)} for {len(floors) - without} rooms{above}"


def main() -> None:
    folders = [pathlib.Path(name).resolve() for name in sys.argv[1:]]
    checkouts = [Checkout(folder) for folder in folders or [pathlib.Path(__file__).resolve().parent.parent]]
    rows = [checkout.rows() for checkout in checkouts]
    print("| |" + "".join(f" {checkout.folder.name} |" for checkout in checkouts))
    print("|---" * (1 + len(checkouts)) + "|")
    for name in rows[0]:
        print(f"| {name} |" + "".join(f" {of_one[name]} |" for of_one in rows))


if __name__ == "__main__":
    main()
