"""configs/tables.py: each argument is a sweep of valid configs, with the paper's tasks, pairs and methods."""

import pytest

from configs import tables
from selw2s_jax import config as config_lib
from selw2s_jax.data import tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks
from selw2s_jax.run import sweep

PAPER = ("sciq", "boolq", "cosmos_qa")
REAL = {
    "table2": ("gpt2", PAPER, 1),
    "table3": ("qwen-1.8b", PAPER, 1),
    "table4": ("qwen-1.8b", PAPER, 1),
    "table5": ("qwen-1.8b", PAPER[:2], 3),
}
WORLDS = [f"{table},world{p_ik}" for table in ("table2", "table4", "table5") for p_ik in ("", ",p_ik=frozen")]
CONTROLS = {"self_training", "random_selection"}


def cells_of(arguments: str) -> list[sweep.Cell]:
    config = config_lib.normalize(tables.get_config(arguments))
    checks.validate(config)
    cells = sweep.expand(config)
    for cell in cells:
        checks.validate(cell.config)
        # No student may see the ground truth of its own task.
        assert cell.config.p_ik.task != cell.config.task
        assert {cell.config.p_ik.task, cell.config.task} <= tasks.TASKS.keys()
    return cells


@pytest.mark.parametrize("table", REAL)
def test_the_papers_tables_are_sweeps_of_its_settings(table):
    weak, names, num_sources = REAL[table]
    cells = cells_of(table)
    assert [cell.config.task for cell in cells] == [name for name in names for _ in range(num_sources)]
    default = config_lib.default_config()
    for cell in cells:
        assert (cell.config.weak.model, cell.config.strong.model) == (weak, "qwen-14b")
        for section in ("training", "graph", "data", "loss", "self_label"):
            assert cell.config[section] == default[section]
        assert cell.config.p_ik.gamma == 0.8 and {"finetune", "selective"} <= set(cell.config.methods)
        assert set(cell.config.methods) >= CONTROLS
    if table == "table5":
        assert {cell.config.p_ik.task for cell in cells} == {"cosmos_qa", "winogrande", "arc"}
    else:
        assert {cell.config.p_ik.task for cell in cells} == {"arc"}


def test_methods_are_those_of_each_table():
    baselines = {"finetune", "confidence", "product", "adaptive", "reverse_kl", "jensen_shannon"}
    of_table = {table: set(cells_of(table)[0].config.methods) - CONTROLS for table in REAL}
    assert of_table["table2"] == of_table["table3"] == baselines | {"selective"}
    ablations = {"selective_without_ik", "selective_without_gs", "mtl"}
    assert of_table["table4"] == ablations | {"finetune", "selective"}
    assert of_table["table5"] == {"finetune", "selective"}


@pytest.mark.parametrize("arguments", WORLDS)
def test_the_same_tables_in_the_small_world(arguments):
    cells = cells_of(arguments)
    assert len(cells) == (6 if "table5" in arguments else 3)
    for cell in cells:
        assert cell.config.data.source == "world" and len(cell.config.seeds) >= 5
        assert (cell.config.p_ik.stage == "frozen") == ("frozen" in arguments)
        assert ("mtl" in cell.config.methods) == ("table4" in arguments and "frozen" not in arguments)
        assert set(cell.config.methods) >= CONTROLS | {"finetune", "selective"}


def test_a_ladder_has_every_weaker_model_teach_every_stronger_one():
    pairs = [(cell.config.weak.model, cell.config.strong.model) for cell in cells_of("ladder")]
    sizes = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
    assert pairs == [(weak, strong) for i, weak in enumerate(sizes) for strong in sizes[i + 1 :]]


@pytest.mark.parametrize("table", [*REAL, "ladder"])
def test_a_toy_of_every_table_needs_no_network(table):
    for cell in cells_of(f"{table},smoke"):
        assert cell.config.data.source == "generated" and cell.config.weak.model.startswith("random-tiny-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (None, "takes one table, such as configs/tables.py:table2, not 0"),
        ("table2,table3", "takes one table, .* not 2"),
        ("table6", "config argument 'table6' is not known; use one of: table2, table3"),
        ("table3,world", "use configs/tables.py:table2,world"),
        ("ladder,world", "use configs/tables.py:table2,world"),
        ("table2,world,smoke", "exclude each other"),
        ("table2,p_ik=frozen", "add world"),
        ("table2,world,p_ik=online", "is not one of: joint, frozen"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        tables.get_config(arguments)
    assert "\n" not in str(caught.value)
