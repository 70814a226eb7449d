"""Registries: what is built in is there whatever was imported first, and options come from stated sections."""

import re
import subprocess
import sys
from unittest import mock

import pytest
from support import paths

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import plugins
from selw2s_jax.method import label_rules, losses, objectives, registry, selection

KNOWN = """
from selw2s_jax.method import factories
KNOWN = factories.Registry("thing", sections=("loss",), built_in=("built_in_here",))
"""
BUILT_IN = """
import known_here
@known_here.KNOWN.register("built_in", sections=("graph", "loss"))
def make(*, scale, size=2, **others):
    return scale
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A registry in one module, and another that registers a part in it, which Python finds and forgets."""
    names = {"known_here": KNOWN, "built_in_here": BUILT_IN}
    for name, code in names.items():
        tmp_path.joinpath(f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in names:
        sys.modules.pop(name, None)


def delete(known, name: str) -> bool:
    del known[name]
    return name not in known


READS = {
    "look-up": lambda known: callable(known["built_in"]),
    "make": lambda known: known.make("built_in", scale=3) == 3,
    "make_from": lambda known: known.make_from("built_in", {"scale": 3, "unknown": 4}) == 3,
    "containment": lambda known: "built_in" in known,
    "iteration": lambda known: list(known) == ["built_in"],
    "length": lambda known: len(known) == 1,
    "option_names": lambda known: known.option_names("built_in") == {"scale", "size"},
    "required_names": lambda known: known.required_names("built_in") == {"scale"},
    "sections": lambda known: known.sections("built_in") == ("graph", "loss"),
    "deletion": lambda known: delete(known, "built_in"),
}


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("read", READS)
def test_built_in_modules_are_imported_at_the_first_use(read):
    import known_here

    assert "built_in_here" not in sys.modules
    assert READS[read](known_here.KNOWN)
    assert "built_in_here" in sys.modules


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("first", ["known_here", "built_in_here"])
def test_a_built_in_name_is_taken_from_the_start(first):
    __import__(first)
    known = sys.modules["known_here"].KNOWN
    with pytest.raises(ValueError, match="a thing named 'built_in' is registered already"):
        known.register("built_in")(print)
    known.register("mine", sections=("graph", "compat"))(print)
    assert list(known) == ["built_in", "mine"]
    assert (known.sections("built_in"), known.sections("mine")) == (("graph", "loss"), ("graph", "compat"))


def test_a_registry_is_patched_and_restored_as_a_dict():
    before = dict(losses.LOSSES)
    with mock.patch.dict(losses.LOSSES):
        losses.register("mine")(lambda: None)
        del losses.LOSSES["hellinger"]
        assert set(losses.LOSSES) == set(before) - {"hellinger"} | {"mine"}
    assert dict(losses.LOSSES) == before


CODE = """
import importlib, operator, sys
for line in sys.argv[1:]:
    module, attribute, names = line.split(":")
    for loaded in [name for name in sys.modules if name.startswith("selw2s_jax")]:
        del sys.modules[loaded]
    known = operator.attrgetter(attribute)(importlib.import_module(f"selw2s_jax.method.{module}"))
    assert sorted(known) == names.split(","), (line, sorted(known))
"""


def test_every_registry_is_whole_whichever_module_is_imported_first():
    """In one process, which forgets the package in between: the libraries below it are slow to import.

    Whole is what has every part that a file of the room registers, by the names in its own text.
    """
    registrations = {}
    for path in (paths.REPO / "selw2s_jax" / "method").glob("*.py"):
        for kind, name in re.findall(r'^@([\w.]*)register\("(\w+)"', path.read_text(), re.MULTILINE):
            home = kind.rstrip(".").removeprefix("selection.") or {"divergences": "losses"}.get(
                path.stem, path.stem
            )
            registrations.setdefault(home, set()).add(name)
    parts = {home: ",".join(sorted(names)) for home, names in registrations.items()}
    assert {"losses", "label_rules", "SELECTORS", "REFINERS"} <= parts.keys()
    expected = (
        f"losses:LOSSES:{parts['losses']}",
        f"divergences:losses.LOSSES:{parts['losses']}",
        f"label_rules:LABEL_RULES:{parts['label_rules']}",
        f"selection:label_rules.LABEL_RULES:{parts['label_rules']}",
        f"controls:label_rules.LABEL_RULES:{parts['label_rules']}",
        f"selection:SELECTORS:{parts['SELECTORS']}",
        f"selection:REFINERS:{parts['REFINERS']}",
    )
    subprocess.run([sys.executable, "-c", CODE, *expected], check=True, timeout=120)


# Options from sections.


def own_loss(*, scale=7.0, rank=7, floor=7.0):
    return lambda logits, weak_probs, step_fraction, example_mask=None: logits[:, 0]


@pytest.mark.usefixtures("registrations")
@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (None, {"scale": 1.0}),
        (("loss",), {"scale": 1.0}),
        (("lora",), {"rank": 8}),
        (("loss", "lora"), {"scale": 1.0, "rank": 8}),
        ((), {}),
    ],
)
def test_options_come_from_the_sections_that_a_factory_states(sections, expected):
    losses.register("own", sections=sections)(own_loss)
    objective = objectives.make_objective(config_lib.default_config(), registry.Method(loss="own"))
    assert dict(objective.loss_options) == expected


@pytest.mark.usefixtures("registrations")
def test_a_part_takes_options_from_sections_of_its_own():
    @selection.SELECTORS.register("own", sections=("loss",))
    def make_selector(*, scale, gamma=0.25):
        return lambda inputs, p_ik: p_ik > gamma / scale

    config = config_lib.default_config()
    config.selection.selector = "own"
    options = dict(objectives.make_objective(config, registry.METHODS["selective"]).rule_options)
    assert options["scale"] == 1.0 and "gamma" not in options and options["alpha"] == 0.9


def needs_strength(*, strength):
    return own_loss()


@pytest.mark.usefixtures("registrations")
@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (None, "loss 'own' needs strength, and config.loss, config.compat has none for it: give a default"),
        ((), "loss 'own' needs strength, and the config has none for it: give a default"),
        (("losses",), "loss 'own' takes options from config.losses, and there is no such section"),
        (("methods",), "loss 'own' takes options from config.methods, and there is no such section"),
    ],
)
def test_an_option_that_the_config_does_not_have_is_one_line_at_the_check(sections, words):
    losses.register("own", sections=sections)(needs_strength)
    registry.register("mine", registry.Method(loss="own"))
    config = config_lib.default_config()
    config.methods = ("mine",)
    with pytest.raises(UserError, match=f"method 'mine': {words}") as raised:
        plugins.check_methods(config)
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("registrations")
def test_the_methods_own_options_come_before_those_of_the_config():
    losses.register("own")(needs_strength)
    method = registry.Method(loss="own", loss_options={"strength": 3})
    objective = objectives.make_objective(config_lib.default_config(), method)
    assert objective.loss_options == (("strength", 3),)


def test_every_part_of_the_package_finds_its_options():
    config = config_lib.default_config()
    for method in registry.METHODS.values():
        objective = objectives.make_objective(config, method)
        losses.get(objective.loss, **dict(objective.loss_options))
        label_rules.get(objective.label_rule, **dict(objective.rule_options))
