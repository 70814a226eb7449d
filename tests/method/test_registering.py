"""Names that are registered again: by the same file or notebook they are replaced, by another they are taken."""

import dataclasses
import operator
from unittest import mock

import pytest

from selw2s_jax.data import tasks, written_catalogue, written_tasks
from selw2s_jax.experiments import columns, teachers
from selw2s_jax.method import (
    combinations,
    label_rules,
    label_sources,
    losses,
    registry,
    row_weights,
    selection,
)
from selw2s_jax.models import registry as models

_MODULES = (
    *(combinations, columns, dataclasses, label_rules, label_sources, losses, models, registry, row_weights),
    *(selection, tasks, teachers, written_tasks),
)
NAMES = {module.__name__.rpartition(".")[2]: module for module in _MODULES} | {
    "models": models,
    "registry": registry,
}
FACTORIES = (
    "losses.LOSSES", "label_rules.LABEL_RULES", "selection.SELECTORS", "selection.REFINERS",
    "label_sources.LABEL_SOURCES", "combinations.COMBINATIONS", "row_weights.ROW_WEIGHTS",
)  # fmt: skip
# By registry, how a part of it is registered.
STATEMENTS = {known: f"{known}.register(name)(part)" for known in FACTORIES} | {
    "registry.METHODS": "registry.register(name, registry.Method(description=part.__doc__))",
    "teachers.TEACHERS": "teachers.register(name)(part)",
    "columns.COLUMNS": "columns.register(name)(part)",
    "tasks.TASKS": "tasks.register(dataclasses.replace(tasks.TASKS['sciq'], name=name, instruction=part.__doc__))",
    "written_tasks.WRITTEN_TASKS": "written_tasks.register("
    "dataclasses.replace(written_tasks.WRITTEN_TASKS['gsm8k'], name=name))",
    "models.FAMILIES": "models.register_family(dataclasses.replace(models.FAMILIES['qwen'], name=name))",
}
BUILT_IN = {
    "losses.LOSSES": "hellinger", "label_rules.LABEL_RULES": "posterior", "selection.SELECTORS": "by_confidence",
    "selection.REFINERS": "graph", "combinations.COMBINATIONS": "votes", "row_weights.ROW_WEIGHTS": "finetune",
    "registry.METHODS": "selective", "teachers.TEACHERS": "chain", "columns.COLUMNS": "shuffled_order",
    "tasks.TASKS": "boolq", "written_tasks.WRITTEN_TASKS": "gsm8k", "models.FAMILIES": "gpt2",
}  # fmt: skip
CELL = {"__name__": "__main__"}
OF_FILE = {"__name__": "mine", "__file__": "/there/mine.py"}

assert written_catalogue  # which registers the paper's tasks


@pytest.fixture(params=STATEMENTS)
def known(request):
    """The name of a registry that the test may change, and the registry."""
    found = operator.attrgetter(request.param.partition(".")[2])(NAMES[request.param.partition(".")[0]])
    with mock.patch.dict(found):
        yield request.param, found


def register(statement: str, name: str, place: dict[str, str]) -> object:
    """Runs a registration as code of a notebook's cell, or of a file, that stands at `place`; the part."""
    space = {**NAMES, **place, "name": name}
    exec(f"def part(*args):\n    'as it is'\n\n{statement}\n", space)
    return space["part"]


@pytest.mark.parametrize("place", [CELL, OF_FILE], ids=["cell", "file"])
def test_a_part_is_replaced_by_the_code_that_registered_it(known, place, capsys):
    statement, names = STATEMENTS[known[0]], known[1]
    register(statement, "mine", place)
    first, count = names["mine"], len(names)
    assert capsys.readouterr().out == ""
    register(statement, "mine", place)
    assert len(names) == count
    assert names["mine"] is not first
    said = capsys.readouterr().out
    assert said.startswith("note: the ") and said.count("\n") == 1
    assert said.endswith("'mine' is registered again, and takes the place of the one before\n")


def test_a_part_is_not_replaced_by_other_code(known):
    statement, names = STATEMENTS[known[0]], known[1]
    register(statement, "mine", OF_FILE)
    first = names["mine"]
    for place in (CELL, OF_FILE | {"__file__": "/there/other.py"}):
        with pytest.raises(
            ValueError, match=r"'mine' is registered already, by /there/mine\.py: choose another"
        ):
            register(statement, "mine", place)
    assert names["mine"] is first


@pytest.mark.parametrize("known", BUILT_IN, indirect=True)
def test_what_is_built_in_is_not_replaced(known):
    name = BUILT_IN[known[0]]
    first = known[1][name]
    with pytest.raises(ValueError, match=rf"'{name}' is registered already, by selw2s_jax\.\w+\.\w+: choose"):
        register(STATEMENTS[known[0]], name, CELL)
    assert known[1][name] is first


def test_columns_and_sections_are_those_of_the_last_registration():
    with mock.patch.dict(label_rules.LABEL_RULES):
        for reads, sections in (("('weak_probs',)", "('loss',)"), ("('self_labels',)", "('graph',)")):
            register(f"label_rules.register(name, reads={reads}, sections={sections})(part)", "mine", CELL)
        assert label_rules.reads("mine", {}) == ("self_labels",)
        assert label_rules.LABEL_RULES.sections("mine") == ("graph",)
