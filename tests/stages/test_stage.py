"""What the key of a training stage holds of its method: options of its parts, and the code of a user's own."""

import dataclasses
import functools
import importlib
import importlib.util
import linecache
import pathlib
import sys
import textwrap
from unittest import mock

import jax
import numpy as np
import pytest
from support import training_stages

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import plugins
from selw2s_jax.method import label_rules, losses, registry
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import examples, own_code, train
from selw2s_jax.stages import training as training_lib
from selw2s_jax.training import loop
from selw2s_jax.worlds import smoke

pytestmark = pytest.mark.usefixtures("registrations")

MY_METHODS = """
from selw2s_jax.method import label_rules, losses, registry

FLOOR = 1e-6

@losses.register("own")
def make_loss(*, alpha=3.0, gamma=7.0, openai_ramp=None):
    return lambda logits, weak_probs, step_fraction, example_mask=None: FLOOR * logits[:, 0]

@label_rules.register("own")
def make_rule(*, alpha, gamma, openai_ramp=None):
    return None

registry.register("own_loss", registry.Method(loss="own"))
registry.register("own_rule", registry.Method(label_rule="own"))
"""


def training(method: str) -> train.Train:
    """The stage that would train a student with a method."""
    return training_stages.make(method, config_lib.default_config(), smoke.RANDOM_MODELS["random-tiny-gpt2"])


def load(path: pathlib.Path, code: str) -> None:
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def forget() -> None:
    for names in (label_rules.LABEL_RULES, losses.LOSSES):
        del names["own"]
    for name in ("own_loss", "own_rule"):
        del registry.METHODS[name]


@pytest.mark.parametrize("method", ["own_loss", "own_rule"])
def test_a_key_holds_the_code_of_a_users_own_method(tmp_path, method):
    keys = {}
    for folder, code in {"a": MY_METHODS, "b": MY_METHODS, "c": MY_METHODS.replace("1e-6", "1e-5")}.items():
        (tmp_path / folder).mkdir()
        load(tmp_path / folder / "my_config.py", code)
        keys[folder] = training(method).key
        finetune = training("finetune")
        forget()
    assert keys["a"] == keys["b"], "where the file lies is no part of a result"
    assert keys["a"] != keys["c"]
    assert finetune.key == training("finetune").key


@pytest.mark.parametrize("method", sorted(registry.METHODS))
def test_no_key_holds_the_code_of_this_package(method):
    assert not [name for name in training(method).inputs if name.startswith("code of")]


def test_losses_and_label_rules_have_options_of_their_own(tmp_path):
    load(tmp_path / "my_config.py", MY_METHODS)
    graph = config_lib.default_config().graph
    own_loss, own_rule = (training(name).inputs["objective"] for name in ("own_loss", "own_rule"))
    assert dict(own_loss["loss_options"]) == {"openai_ramp": False}
    assert dict(own_rule["rule_options"]) == {"alpha": graph.alpha, "gamma": 0.8}


def test_a_loss_whose_source_cannot_be_read_is_refused():
    losses.register("own")(functools.partial(losses.make_confidence_loss, confidence_coefficient=0.7))
    registry.register("own_loss", registry.Method(loss="own"))
    with pytest.raises(UserError, match=r"the source of loss .* cannot be read") as raised:
        training("own_loss").key  # noqa: B018
    assert "\n" not in str(raised.value)


# What a part imports.


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes modules into a folder that Python finds, and forgets them after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write_files(**files: str) -> None:
        for name, code in files.items():
            path = (tmp_path / name.replace("__", "/")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(code))
        importlib.invalidate_caches()

    yield write_files
    for name in set(sys.modules) - before:
        del sys.modules[name]


def code_of(name: str) -> dict[str, str]:
    """What a key holds of `make` in a module, imported anew."""
    for module in [
        module for module in sys.modules if module.split(".")[0] in ("mine", "lab", "helper", "deep")
    ]:
        del sys.modules[module]
    importlib.invalidate_caches()
    return own_code.hashes(loss=importlib.import_module(name).make)


MAKE = "def make():\n    return lambda *args: SCALE\n"


@pytest.mark.parametrize(
    "how",
    [
        "import helper\nSCALE = helper.SCALE\n",
        "from helper import SCALE\n",
        "from helper import *\n",
        "import helper as h, math\nSCALE = h.SCALE\n",
        "import importlib\nh = importlib.import_module('helper')\nSCALE = h.SCALE\n"
        + "def other():\n    return h\n",
        "def SCALE():\n    from helper import SCALE\n",
        "if True:\n    try:\n        import deep as helper\n    except ImportError:\n        import helper\n",
    ],
)
def test_a_key_holds_the_files_that_a_part_imports(write, how):
    write(mine=how + MAKE, helper="SCALE = 1", deep="from helper import SCALE")
    first = code_of("mine")
    assert code_of("mine") == first
    write(helper="SCALE = 55")
    assert code_of("mine") != first
    write(helper="SCALE = 1")
    assert code_of("mine") == first


def test_a_key_holds_what_the_modules_of_a_package_import(write):
    write(
        lab____init__="",
        lab__rules="from . import sizes\nfrom .parts import scale\n" + MAKE,
        lab__sizes="A = 1",
        lab__parts____init__="",
        lab__parts__scale="import helper\nfrom ..sizes import A\nfrom .. import rules",
        helper="SCALE = 1",
        lab__other="B = 1",
    )
    first = code_of("lab.rules")
    for name, code in (
        ("lab__sizes", "A = 2"),
        ("lab__parts__scale", "import helper"),
        ("helper", "SCALE = 2"),
    ):
        write(**{name: code})
        found = code_of("lab.rules")
        assert found != first, name
        first = found
    write(lab__other="B = 2")
    assert code_of("lab.rules") == first, "which it does not import"


def test_a_part_without_such_imports_has_the_hash_of_its_file(write, tmp_path):
    write(
        mine="import json\nimport numpy as np\nfrom selw2s_jax.method import losses\nfrom . import x\n" + MAKE
    )
    text = (tmp_path / "mine.py").read_text().replace("from . import x\n", "")
    (tmp_path / "mine.py").write_text(text)
    assert code_of("mine") == {"code of loss": artifacts.content_hash(text)}


def test_a_cell_of_a_notebook_has_what_it_names_of_other_modules(write, monkeypatch):
    write(helper="def scale():\n    return 1\n")
    cell = "def make():\n    return lambda *args: scale() * h.scale()\n"
    keys = []
    for code in ("1", "2"):
        write(helper=f"def scale():\n    return {code}\n")
        sys.modules.pop("helper", None)
        importlib.invalidate_caches()
        module = importlib.import_module("helper")
        names = {"__name__": "__main__", "scale": module.scale, "h": module}
        exec(compile(cell, "<cell>", "exec"), names)
        monkeypatch.setitem(linecache.cache, "<cell>", (len(cell), None, cell.splitlines(True), "<cell>"))
        keys.append(own_code.hashes(loss=names["make"]))
    assert keys[0] != keys[1]


CELLS = {
    "helper": "@jax.jit\ndef bend(x):\n    return x * steps[0] * TABLE.sum()\n",
    "make": "def make(*, q=START):\n    def loss(logits):\n        return bend(logits) + size\n    return loss\n",
}


def hashes_of_cells(monkeypatch, cells: dict[str, str], **values) -> dict[str, str]:
    names = {
        "__name__": "__main__",
        "np": np,
        "jax": jax,
        "steps": (1, 2),
        "TABLE": np.arange(3),
        "START": 0.5,
        "size": 1,
    }
    names |= values
    for name, cell in cells.items():
        lines = (len(cell), None, cell.splitlines(True), f"<{name}>")
        monkeypatch.setitem(linecache.cache, f"<{name}>", lines)
        exec(compile(cell, f"<{name}>", "exec"), names)
    return own_code.hashes(loss=names["make"])


def test_a_cell_of_a_notebook_has_values_and_arrays_of_other_cells(monkeypatch):
    other_values = {"steps": (1, 3), "size": 2, "START": 1.5, "TABLE": np.ones(3)}
    keys = [
        hashes_of_cells(monkeypatch, CELLS),
        hashes_of_cells(monkeypatch, CELLS | {"helper": CELLS["helper"].replace("*", "+")}),
        *(hashes_of_cells(monkeypatch, CELLS, **{name: value}) for name, value in other_values.items()),
    ]
    assert len({key["code of loss"] for key in keys}) == len(keys)
    in_class = {
        "helper": "class Bend:\n    power = 2\n    @classmethod\n    def by(cls, x):\n        return x * TABLE\n"
    }
    in_class["make"] = "def make():\n    return lambda logits: Bend.by(logits)\n"
    changed = {"helper": in_class["helper"].replace("*", "+"), "make": in_class["make"]}
    fields = in_class | {
        "helper": "import dataclasses\n@dataclasses.dataclass\nclass Bend:\n    by: int = 1\n"
    }
    others = fields | {"helper": fields["helper"].replace("1", "2")}
    of_class = [hashes_of_cells(monkeypatch, cells) for cells in (in_class, changed, fields, others)]
    of_class.append(hashes_of_cells(monkeypatch, in_class, TABLE=np.ones(3)))
    assert len({key["code of loss"] for key in of_class}) == len(of_class)
    # Names that a function has of its own are not the notebook's.
    assert hashes_of_cells(monkeypatch, CELLS, logits=np.ones(2), q=3, loss=4, x=5) == keys[0]
    alone = {"make": "def make():\n    return lambda logits: logits\n"}
    assert hashes_of_cells(monkeypatch, alone) == {"code of loss": artifacts.content_hash(alone["make"])}


def test_a_cell_of_a_notebook_has_what_it_names_of_other_cells(monkeypatch):
    def key(scale: int = 1, floor: object = 0.5, unused: int = 0) -> dict[str, str]:
        cells = [
            f"SCALE = {scale}\nUNUSED = {unused}\n",
            f"def floor():\n    return {floor}\n\n\ndef deep(x):\n    return x * SCALE + floor()\n",
            "def make():\n    return lambda *args: deep(args)\n",
        ]
        names = {"__name__": "__main__"}
        for number, cell in enumerate(cells):
            name = f"<cell {number}>"
            exec(compile(cell, name, "exec"), names)
            monkeypatch.setitem(linecache.cache, name, (len(cell), None, cell.splitlines(True), name))
        return own_code.hashes(loss=names["make"])

    first = key()
    assert key(unused=1) == first
    assert first != key(scale=2) != key(floor=0.25) != first


def test_a_key_holds_the_package_of_a_part_also_where_that_is_installed(write, monkeypatch, tmp_path):
    write(
        lab____init__="",
        lab__rules="import helper\nfrom . import sizes\n" + MAKE,
        lab__sizes="A = 1",
        helper="",
    )
    monkeypatch.setattr(own_code, "_installed", lambda: (tmp_path.resolve(),))
    first = code_of("lab.rules")
    write(helper="SCALE = 2")  # of another package, whose version says what it is
    assert code_of("lab.rules") == first
    write(lab__sizes="A = 2")
    assert code_of("lab.rules") != first


def test_a_file_counts_as_it_was_imported(write, tmp_path, capsys):
    """What is written there while a run is under way, or between two of a notebook, is not what trains."""
    write(mine="import helper\n" + MAKE, helper="SCALE = 1")
    first, make = code_of("mine"), sys.modules["mine"].make
    for name, code in {"mine": "import helper\n\n" + MAKE, "helper": "SCALE = 2"}.items():
        before, path = (tmp_path / f"{name}.py").read_text(), tmp_path / f"{name}.py"
        path.write_text(code)
        assert own_code.hashes(loss=make) == first and own_code.changed() == {name: path}
        plugins.load(config_lib.default_config())
        assert f"note: {path} has changed since the module {name} was imported" in capsys.readouterr().out
        path.write_text(before)
    assert not own_code.changed()
    write(helper="SCALE = 22")
    importlib.reload(sys.modules["helper"])
    assert own_code.hashes(loss=make) != first and not own_code.changed()


# Sizes that cannot run, before anything is trained.


def test_a_batch_of_p_ik_is_no_larger_than_its_examples():
    stage = training("finetune")
    p_ik = examples.PIKExamples(
        dataclasses.replace(stage.task.split, examples=stage.task.split.examples[:20]), {}
    )
    for size in (10, 20, 32):  # 32 is that of the task, which it has where it is not set
        dataclasses.replace(stage, p_ik=p_ik, batch_sizes={batches.TASK: 32, batches.P_IK: size}).check()
    large = dataclasses.replace(stage, p_ik=p_ik, batch_sizes={batches.TASK: 32, batches.P_IK: 21})
    with pytest.raises(
        UserError, match=r"config\.p_ik\.batch_size=21 is more than the 20 examples of P\(IK\)"
    ):
        large.check()
    dataclasses.replace(large, p_ik=None).check()


@pytest.mark.parametrize("epochs", [1e30, 1e7, 500_001.0])
def test_a_training_has_an_end(epochs):
    with pytest.raises(
        UserError, match=r"^student: .* epochs of 64 examples are more than 1000000 steps of 32: lower"
    ):
        training_lib.count_steps(64, epochs, 32, "student")
    assert training_lib.count_steps(64, 500_000.0, 32, "student") == 1_000_000


def test_a_loss_that_is_none_before_any_weight_has_changed_is_not_for_a_lower_rate():
    metrics, data = {"loss": float("nan"), "grad_norm": 1.0}, mock.Mock(num_steps=9)
    data.example_ids.return_value = ["a", "b"]
    first, later = (str(loop._not_finite("weak, seed 0", step, metrics, data, None)) for step in (0, 1))
    assert "the pretrained model holds values that are not finite" in first and "learning rate" not in first
    assert "lower the learning rate" in later
