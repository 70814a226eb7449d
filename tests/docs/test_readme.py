"""What README.md, docs/ and launch/README.md say: their examples, commands, names, keys and links."""

import dataclasses
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import textwrap
from unittest import mock

import jax.numpy as jnp
import ml_collections
import numpy as np
import pyarrow.parquet
import pytest
from fixtures import make_parity
from support import paths, random_arrays, report_runs

import selw2s_jax
from selw2s_jax import config as config_lib
from selw2s_jax.data import sources, tasks, written_splits, written_tasks
from selw2s_jax.experiments import checks, plugins
from selw2s_jax.hf import random_checkpoint
from selw2s_jax.method import (
    combinations,
    label_rules,
    losses,
    method_options,
    objectives,
    registry,
    row_weights,
    selection,
)
from selw2s_jax.models import registry as model_registry
from selw2s_jax.report import document, stored

README = paths.REPO / "README.md"
DOCS = sorted((paths.REPO / "docs").glob("*.md"))
PAGES = [README, *DOCS, paths.REPO / "launch" / "README.md"]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(paths.REPO)))

ROOMS = sorted(path.parent.name for path in (paths.REPO / "selw2s_jax").glob("*/__init__.py"))
# Files of the reader's own, in examples.
OWN_CONFIGS = ("my_config.py",)
OWN_FILES = ("report/class_sections.py",)


def load_module(path: pathlib.Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_blocks(page: pathlib.Path) -> list[str]:
    """The indented blocks after an empty line, unindented."""
    blocks = re.findall(r"\n\n((?:    .*\n|\n(?=    ))+)", page.read_text() + "\n")
    return [textwrap.dedent(block) for block in blocks]


def command_lines(page: pathlib.Path) -> list[str]:
    """The lines of code blocks and the code in sentences and tables; continued lines are one, comments are gone."""
    sentences = "\n".join(line for line in page.read_text().splitlines() if line[:4].strip())
    inline = re.findall(r"`([^`]+)`", sentences)
    lines = "\n".join([*code_blocks(page), *inline]).replace("\\\n", " ").splitlines()
    return [re.split(r"\s#", line)[0].strip() for line in lines]


def anchors(page: pathlib.Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: pathlib.Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [link for link in found if not link.startswith(("https://", "http://"))]


def example(name: str) -> str:
    """The code that the guide gives as a file of that name."""
    text = (paths.REPO / "docs" / "extending.md").read_text()
    blocks = re.split(rf"As( a whole)?\s`{name}`", text)[-1]
    return textwrap.dedent(re.search(r"\n\n((?:    .*\n|\n)+)", blocks)[1])


def my_config() -> str:
    return example("my_config.py")


def test_the_front_page_is_a_page():
    assert len(README.read_text().splitlines()) <= 220


def test_the_front_page_leads_to_every_other():
    linked = {(README.parent / link.partition("#")[0]).resolve() for link in links(README)}
    assert not {page for page in PAGES[1:] if page not in linked}


@every_page
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@every_page
def test_files_that_are_named_exist(page):
    text, own, package = page.read_text(), "|".join(ROOMS), paths.REPO / "selw2s_jax"
    folders = f"benchmarks|configs|docs|launch|selw2s_jax|tests|{own}"
    names = re.findall(rf"(?<![\w./-])((?:{folders})/[\w./-]+\.(?:py|sh|md|png|json|yaml))", text)
    # Of the package's modules also what they hold, as `run/pipeline.run`.
    names += [f"{name}.py" for name in re.findall(rf"`((?:{own})/\w+)(?:\.\w+)?`", text)]
    there = [name for name in names if (paths.REPO / name).exists() or (package / name).exists()]
    assert not set(names) - {*there, *OWN_FILES}


def test_the_front_pages_targets_are_those_of_make_and_of_continuous_integration():
    targets = re.findall(r"^(\w+):", (paths.REPO / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"^make (\w+)", "\n".join(code_blocks(README)), re.MULTILINE)
    assert named == ["quickstart", "test"]
    assert set(named) <= set(targets)
    assert re.search(r"^make test\b", (paths.REPO / ".ci" / "run").read_text(), re.MULTILINE)


@every_page
def test_commands_are_of_modules_and_flags_that_exist(page):
    for line in command_lines(page):
        if not (command := re.search(r"-m selw2s_jax\.(\w+)(.*)", line)):
            continue
        path = paths.REPO / "selw2s_jax" / f"{command[1]}.py"
        path = path if path.exists() else path.with_suffix("") / "__main__.py"
        assert path.exists(), line
        defined = path.read_text() + (paths.REPO / "selw2s_jax" / "cli.py").read_text()
        for flag in re.findall(r"(?<!\S)--(\w+)", command[2]):
            assert f'"{flag}"' in defined, f"{line}: no flag --{flag}"


@every_page
def test_configs_of_commands_load(page):
    for line in command_lines(page):
        for name in re.findall(r"--config=([\w./-]+\.py(?::[\w=.,/-]+)?)", line):
            path, _, arguments = name.partition(":")
            if path not in OWN_CONFIGS:
                config = config_lib.normalize(load_module(paths.REPO / path).get_config(arguments or None))
                models = ("strong",) if registry.is_p_ik_alone(config.methods) else ("weak", "strong")
                checks.validate(config, models=models)


@every_page
def test_keys_of_the_config_exist(page):
    text, config = page.read_text(), config_lib.default_config()
    sections = [name for name in config if isinstance(config[name], ml_collections.ConfigDict)]
    keys = re.findall(rf"`((?:{'|'.join(sections)})\.[a-z0-9_]+)(?:=[^`]*)?`", text)
    keys += re.findall(r"config\.(?!key=)([\w.]+) ?=", text)
    for key in keys:
        section, _, rest = key.partition(".")
        if section == config_lib.OPTIONS:
            rest = ""  # its keys are free
        assert section in config and (not rest or rest in config[section]), f"no key {key} in the config"


@every_page
def test_code_can_be_read(page):
    for block in code_blocks(page):
        if re.match(r"(import|from) ", block):
            compile(block, str(page), "exec")
        while block.startswith("{"):
            _, end = json.JSONDecoder().raw_decode(block)
            block = block[end:].lstrip()


def test_the_example_is_a_config_with_a_method_of_its_own(registrations, tmp_path):
    (tmp_path / "my_config.py").write_text(my_config())
    config = load_module(tmp_path / "my_config.py").get_config()
    checks.validate(config_lib.normalize(config))
    own = [name for name in config.methods if losses.LOSSES[name].__module__ == "my_config"]
    assert len(own) == 1
    weak_probs = jnp.asarray([[0.3, 0.7], [1.0, 0.0]])
    values = losses.get(own[0])(jnp.log(weak_probs + 1e-6), weak_probs, 0.5)
    np.testing.assert_allclose(values, 0.0, atol=1e-4)


def test_the_example_works_as_a_plugin(registrations, tmp_path, monkeypatch):
    code, _, _ = my_config().partition("def get_config")
    (tmp_path / "my_methods.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    config = config_lib.default_config()
    config.plugins, config.methods = ("my_methods",), ("finetune", "jeffreys")
    plugins.load(config)
    del sys.modules["my_methods"]
    plugins.check_methods(config)
    own = objectives.make_objective(config, registry.METHODS["jeffreys"])
    assert own.loss_options == (("scale", 1.0),)
    config_lib.put(config, "method_options.jeffreys.beta", 1)
    own = objectives.make_objective(config, method_options.applied(config, "jeffreys"))
    assert own.loss_options == (("beta", 1.0), ("scale", 1.0))
    f, w = np.array([[0.25, 0.75]]), np.array([[0.5, 0.5]])
    expected = (f * np.log(f / w)).sum()
    np.testing.assert_allclose(losses.get("jeffreys", beta=1.0)(np.log(f), w, 0.0), [expected], rtol=1e-5)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Loads an example of the guide as a plug-in, and forgets it after the test."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(name: str) -> None:
        (tmp_path / f"{name}.py").write_text(example(f"{name}.py"))
        plugins.import_modules((name,))
        monkeypatch.delitem(sys.modules, name)

    with mock.patch.dict(tasks.TASKS), mock.patch.dict(model_registry.FAMILIES):
        yield load


def test_the_label_rule_and_the_selector_of_the_guide(registrations, plugin):
    plugin("my_rules")
    config = config_lib.default_config()
    config.weak.model = config.strong.model = "gpt2"
    config.methods, config.selection.selector = ("mixed", "selective"), "unsure"
    config = config_lib.normalize(config)
    checks.validate(config)
    plugins.check_methods(config)
    inputs = random_arrays.rule_inputs(3, 11)
    np.testing.assert_allclose(
        label_rules.get("mixed", share=0.25)(inputs).targets,
        0.75 * inputs.weak_probs + 0.25 * selection.as_probs(inputs.self_labels),
        rtol=1e-6,
    )
    options = dict(objectives.make_objective(config, registry.METHODS["selective"]).rule_options)
    labels = label_rules.get("selective", **options | {"gamma": 0.3})(inputs)
    expected = (inputs.p_ik > 0.3) & (inputs.weak_probs.max(-1) < 0.8) & inputs.example_mask
    assert 0 < expected.sum() < (inputs.p_ik > 0.3).sum()
    np.testing.assert_array_equal(labels.ik_mask, expected)


def test_the_label_rule_with_a_state_of_the_guide(registrations, plugin):
    plugin("my_votes")
    config = config_lib.default_config()
    config.weak.model = config.strong.model = "gpt2"
    config.methods = ("steady",)
    plugins.check_methods(config_lib.normalize(config))
    inputs, rule = random_arrays.rule_inputs(3, 11), label_rules.get("steady", memory=0.75)
    weak, mask = np.asarray(inputs.columns["weak_each"]), np.asarray(inputs.example_mask)
    labels, trust = rule.label(inputs, rule.init({"weak_each": weak.shape[1:]}))
    np.testing.assert_allclose(labels.targets, weak.mean(1), rtol=1e-5)
    same = (weak[..., 1] > 0.5) == np.asarray(inputs.class_logits.argmax(-1) == 1)[:, None]
    np.testing.assert_allclose(trust, 0.75 + 0.25 * same[mask].mean(0), rtol=1e-5)


def test_the_row_weights_of_the_guide(registrations, plugin):
    plugin("my_weights")
    answers = [[1, 1, 1, 0], [1, 0, 0, 1], [None, None, None, None], [2]]
    inputs = row_weights.RowInputs(list("abcd"), answers, lambda purpose, key: 0.5)
    for least, expected in ((0.5, [1, 0, 0, 0]), (0.3, [1, 1, 0, 0])):
        found = row_weights.get("agreed", least=least)(inputs)
        row_weights.check_rows(found, list(map(len, answers)))
        np.testing.assert_array_equal(found.weights[:, 0], expected)
        assert not found.weights[:, 1:].any()


def test_the_signatures_of_the_guide_are_of_registries_that_there_are():
    text = (paths.REPO / "docs" / "extending.md").read_text()
    table = re.search(r"\| part \| registered by \|.*\n((?:\|.*\n)+)", text)[1]
    assert len(table.splitlines()) == 12
    for fields in (label_rules.RuleInputs, label_rules.Labels):
        described = text.partition(f"`{fields.__name__}` has ")[2].partition("\n\n")[0]
        assert all(re.search(rf"`{name}\b", described) for name in fields._fields)


def test_the_combination_of_the_guide(registrations, plugin):
    plugin("my_dawid_skene")
    config = config_lib.default_config()
    config.strong.model, config.weak.members, config.weak.combine = "gpt2", ("gpt2", "gpt2"), "dawid_skene"
    checks.validate(config_lib.normalize(config))
    # Two good models and three that hardly know: votes count all of them alike.
    random, truth = np.random.default_rng(0), np.tile([0, 1], 400)
    right = random.random((800, 5)) < [0.9, 0.85, 0.55, 0.55, 0.55]
    classes = np.where(right, truth[:, None], 1 - truth[:, None])
    each = np.stack([1 - classes, classes], axis=-1).astype(np.float32)
    accuracy = {
        name: ((combinations.combine(name, each)[:, 1] > 0.5) == truth).mean()
        for name in ("votes", "dawid_skene")
    }
    assert accuracy["dawid_skene"] > accuracy["votes"] + 0.03
    # With one model its own classes, whatever the numbering of the rows.
    alone = combinations.combine("dawid_skene", each[:, :1])
    np.testing.assert_array_equal(alone[:, 1] > 0.5, classes[:, 0] == 1)


def test_the_task_of_the_guide(plugin, tmp_path):
    plugin("my_tasks")
    rows = {
        "question": ["What bees make?", "What has keys?"],
        "right": ["honey", "a piano"],
        "wrong": ["wax", "a cat"],
    }
    (tmp_path / "riddles").mkdir()
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "riddles" / "train.parquet")
    task = tasks.get_task("riddles")
    questions = sources.load_questions(task, "train", source=str(tmp_path))
    shown = tasks.convert(task, questions, mode="all", seed=0)
    assert [(one.text, one.label) for one in shown[2:]] == [
        ("Q: What has keys? A: a piano", 1),
        ("Q: What has keys? A: a cat", 0),
    ]


def test_the_written_task_of_the_guide(tmp_path):
    (code,) = (one for one in code_blocks(paths.REPO / "docs" / "reliability.md") if "WrittenTask(" in one)
    (tmp_path / "my_written_task.py").write_text(code)
    for split, count in (("train", 4), ("test", 2)):
        rows = {
            "riddle": [f"{split} {i}?" for i in range(count)],
            "options": [["a", "b"]] * count,
            "right": [1] * count,
        }
        (tmp_path / "riddles").mkdir(exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "riddles" / f"{split}.parquet")
    with mock.patch.dict(written_tasks.WRITTEN_TASKS):
        load_module(tmp_path / "my_written_task.py")
        data = written_splits.read(written_tasks.get("riddles"), source=str(tmp_path), seed=0)
    assert [len(one) for one in (data.weak, data.student, data.test)] == [2, 2, 2]
    asked = "Riddle: test 0? A. a. B. b. ### Answer:"
    assert data.test.prompts[0] == f"### Instruction: Solve the riddle. Choose an answer from A,B. {asked}"


def test_the_model_family_of_the_guide(plugin, tmp_path):
    plugin("my_family")
    sizes = make_parity.QWEN_CONFIG
    sizes = dataclasses.replace(sizes, family="mine", norm_eps=1e-6, rope_base=10000.0, tie_embeddings=False)
    random_checkpoint.write_random_checkpoint(tmp_path / "mine", sizes)
    random_checkpoint.write_random_checkpoint(tmp_path / "qwen", dataclasses.replace(sizes, family="qwen"))
    tokens = np.arange(14).reshape(2, 7)
    mine, qwen = (
        selw2s_jax.load_model(tmp_path / name, param_dtype="float32", compute_dtype="float32")
        for name in ("mine", "qwen")
    )
    assert mine.config == sizes
    np.testing.assert_array_equal(mine.hidden_states(tokens), qwen.hidden_states(tokens))


def test_the_analysis_of_the_guide(tmp_path, monkeypatch):
    (tmp_path / "class_sections.py").write_text(example("report/class_sections.py"))
    run = stored.read_run(report_runs.write_run(tmp_path / "run"))
    monkeypatch.setattr(document, "_ANALYSES", (load_module(tmp_path / "class_sections.py").sections,))
    files = document.files([run])
    assert [float(row["share"]) for row in report_runs.read_csv(files["classes.csv"])] == [run.truth.mean()]
    assert b"Classes of the test sets" in files["report.html"]


def test_the_table_of_methods_is_whole():
    text = (paths.REPO / "docs" / "method.md").read_text()
    table = re.search(r"\| method \| what it is \|\n((?:\|.*\n)+)", text)[1]
    named = [name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(registry.students())
    options = re.findall(r"`loss\.(\w+)`", table)
    assert sorted([*options, "mean"]) == sorted(
        config_lib.default_config().loss
    )  # the mean is of completions


def test_the_table_of_models_is_whole():
    text = (paths.REPO / "docs" / "running.md").read_text()
    table = re.search(r"\| names \| parameters \| on the hub \|\n((?:\|.*\n)+)", text)[1]
    rows = [row.split("|") for row in table.splitlines()[1:]]
    named = {
        name: re.findall(r"`([^`]+)`", row[3])[0] for row in rows for name in re.findall(r"`([^`]+)`", row[1])
    }
    assert named == {name: e.hub_name.split("/")[0] for name, e in model_registry.MODELS.items()}


@pytest.mark.slow
def test_the_example_method_runs_and_its_code_is_part_of_its_key(tmp_path):
    def run(code: str, *arguments: str) -> str:
        (tmp_path / "my_config.py").write_text(code)
        command = [sys.executable, "-m", "selw2s_jax.main", "--config=my_config.py", "--workdir=run"]
        return subprocess.run(
            [*command, "--config.data.num_train=128", "--config.data.num_test=21", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    first = run(my_config())
    assert re.search(r"^jeffreys +\d+\.\d\d", first, re.MULTILINE)
    assert ", 0 to run" in run(my_config())
    # The student and its evaluation; nothing else depends on the loss.
    assert ", 2 to run" in run(my_config(), "--config.method_options.jeffreys.beta=0.8", "--dry_run")
    edited = run(my_config().replace("1e-6", "1e-5"))
    assert ", 2 to run" in edited
