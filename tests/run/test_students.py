"""Finding a trained model of a run by its name, and building it from what the run kept."""

import dataclasses
import json
import pathlib
import shutil
import types

import jax
import numpy as np
import pytest
from support import small_run, tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.data import prompts as prompts_lib
from selw2s_jax.data import splits, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs
from selw2s_jax.hf import tokenizers
from selw2s_jax.inference import classify
from selw2s_jax.run import describe, manifests, student_models, students
from selw2s_jax.runtime import artifacts

NAME = {"task": "sciq", "method": "selective", "seed": 0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return small_run.workdir(tmp_path_factory.getbasetemp())


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run, free to be damaged."""
    return shutil.copytree(finished, tmp_path / "run")


def edit_manifest(run, change) -> None:
    """Changes the manifest wherever the run has it."""
    for path in (run / "manifest.json", run / "results.json"):
        if path.is_file():
            content = json.loads(path.read_text())
            change(content if path.name == "manifest.json" else content["manifest"])
            path.write_text(json.dumps(content))


def artifact_folder(run, method: str):
    return run / "artifacts" / "train" / students.find(run, **NAME | {"method": method}).artifact.key


@pytest.mark.parametrize("method", ["weak", "ceiling", "selective"])
def test_a_student_is_built_as_training_left_it(finished, method):
    """Its predictions on the texts of the test split are those that the run kept, from names alone."""
    student = students.find(str(finished), **NAME | {"method": method})
    facts = student.facts
    assert (facts.has_class_head, facts.has_p_ik_head) == (True, method == "selective")
    assert facts.role == ("weak" if method == "weak" else "strong") and facts.base == "random-tiny-gpt2"
    found = inputs.prepare(config_lib.normalize(small_run.make_config()), finished)
    test = found.by_seed[0].test
    texts = [facts.classifier_input(example.text) for example in test.examples]
    assert texts == test.texts and facts.instruction
    tokens = [np.array(ids, np.int32) for ids in student_models.load_tokenizer(student).encode_batch(texts)]
    classifier = student_models.load(student)
    probs, p_ik = classify.predict(
        classifier,
        tokens,
        mesh=classifier.backbone.mesh,
        batch_tokens=small_run.make_config().execution.score_tokens,
        label="test",
    )
    stages = json.loads((finished / "results.json").read_text())["manifest"]["stages"]
    (key,) = (stage["key"] for stage in stages if stage["label"] == f"evaluation of {method}, seed 0")
    folder = finished / "artifacts" / "predictions" / key
    files = json.loads((folder / "manifest.json").read_text())["files"]
    kept = artifacts.Artifact("predictions", key, folder, files).read_table("predictions.parquet")
    np.testing.assert_array_equal(kept["example_id"], test.ids)
    np.testing.assert_allclose(probs[:, 1], kept["prob_1"], rtol=0, atol=1e-6)
    assert (p_ik is None) == ("p_ik" not in kept)


def test_dtypes_are_those_of_the_run_or_as_asked(finished):
    student = students.find(finished, **NAME)
    whole, half = student_models.load(student), student_models.load(student, param_dtype="bfloat16")
    assert whole.class_head.dtype == np.float32 and half.class_head.dtype == jax.numpy.bfloat16
    np.testing.assert_array_equal(half.backbone.wte[...], whole.backbone.wte[...].astype(jax.numpy.bfloat16))


def test_a_workdir_can_be_moved(run):
    student = students.find(run, **NAME)
    assert student.tokenizer_folder.is_relative_to(run)
    assert student_models.load_tokenizer(student).fingerprint == student.tokenizer_fingerprint


def test_other_spellings_of_a_task_are_the_same_task(run):
    edit_manifest(run, lambda manifest: [s.update(task="cosmos_qa") for s in manifest["students"]])
    assert students.find(run, **NAME | {"task": "cosmosqa"}).facts.task == "cosmos_qa"


def test_the_manifest_of_the_last_start_counts_before_that_of_the_last_end(run):
    content = json.loads((run / "results.json").read_text())["manifest"]
    content["students"] = [entry | {"seed": 7} for entry in content["students"]]
    (run / "manifest.json").write_text(json.dumps(content))
    assert students.find(run, **NAME | {"seed": 7}).facts.seed == 7
    (run / "manifest.json").unlink()
    assert students.find(run, **NAME).facts.seed == 0


def test_what_a_run_has_one_of_needs_no_name(finished):
    assert students.find(finished, task=None, method="selective", seed=None) == students.find(
        finished, **NAME
    )


def test_what_a_run_of_a_sweep_has_one_of_needs_no_name():
    entries = [{"run": task, "task": task, "method": "weak", "seed": 0, "key": task} for task in "ab"]
    names = {"task": None, "method": None, "seed": None}
    assert students._choose("DIR", entries, {"run": "b", **names}) == entries[1]
    with pytest.raises(UserError, match="task is missing"):
        students._choose("DIR", entries, names)


def test_readers_know_models_by_the_names_of_the_config(run):
    def give(manifest):
        for role, name in (("weak", "Small"), ("strong", "Big")):
            manifest["config"][role]["name"] = manifest["models"][role]["title"] = name

    edit_manifest(run, give)
    of = {
        name: students.with_titles(students.find(run, **NAME | {"method": name}))
        for name in ("weak", "ceiling")
    }
    assert (of["weak"].base, of["ceiling"].base, of["ceiling"].weak) == ("Small", "Big", "Small")
    assert students.find(run, **NAME).facts.base != "Big"  # by which its weights are found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ({"task": "scqi"}, r"task scqi is not there: .* has sciq; did you mean sciq\?"),
        ({"method": "selectiv"}, r"has weak, ceiling, selective; did you mean selective\?"),
        ({"method": "zzz"}, r"method zzz is not there: the run in \S+ has weak, ceiling, selective$"),
        ({"method": None}, "^method is missing: the run in .* has weak, ceiling, selective"),
        ({"seed": 1}, "seed 1 is not there: the run in .* has 0"),
    ],
)
def test_an_unknown_name_lists_what_there_is(finished, name, message):
    with pytest.raises(UserError, match=message):
        students.find(finished, **NAME | name)


def _no_manifest(run):
    for name in ("manifest.json", "results.json"):
        (run / name).unlink(missing_ok=True)


def _no_json(run):
    _no_manifest(run)
    (run / "results.json").write_text('{"manifest": ')


def _no_object(run):
    _no_manifest(run)
    (run / "results.json").write_text("[]")


def _not_trained(run):
    shutil.rmtree(artifact_folder(run, "selective"))


def _not_finished(run):
    (artifact_folder(run, "selective") / "manifest.json").unlink()


def _no_artifact_manifest(run):
    (artifact_folder(run, "selective") / "manifest.json").write_text("{")


def _other_inputs(run):
    path = artifact_folder(run, "selective") / "manifest.json"
    content = json.loads(path.read_text())
    content["inputs"]["learning_rate"] = 1.0
    path.write_text(json.dumps(content))


def _flipped_summary(run):
    path = artifact_folder(run, "selective") / "summary.json"
    path.write_text(path.read_text().replace("true", "True", 1))


def _cut_summary(run):
    (artifact_folder(run, "selective") / "summary.json").write_text("")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "workdir .* is not there; give the --workdir of a run"),
        (_no_manifest, r"has no run in it; run python -m selw2s_jax\.main --workdir"),
        (_no_json, r"results\.json cannot be read; run the same config"),
        (_no_object, r"results\.json cannot be read; run the same config"),
        (lambda run: edit_manifest(run, lambda m: m.pop("students")), "lists no students; run the same"),
        (_not_trained, "selective, seed 0 is not trained yet in .*; run the same config there again"),
        (_not_finished, "selective, seed 0 is not trained yet in .*; run the same config there again"),
        (_no_artifact_manifest, "artifact train/.* has no readable manifest; delete .* and run"),
        (_other_inputs, "artifact train/.* was made from other inputs than its name says; delete"),
        (_flipped_summary, "artifact train/.* is damaged: summary.json .*; delete"),
        (_cut_summary, "artifact train/.* is damaged: summary.json .*; delete"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_run_without_that_student_says_why(run, damage, message):
    damage(run)
    with pytest.raises(UserError, match=message) as info:
        students.find(run, **NAME)
    assert "\n" not in str(info.value)


def test_damaged_weights_are_refused(run):
    student = students.find(run, **NAME)
    files = pathlib.Path(student.artifact.path / "params").rglob("*")
    victim = max(files, key=lambda path: path.is_file() * path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(UserError, match=r"artifact train/.* is damaged: params/.* delete"):
        student_models.load(student)


def test_a_tokenizer_that_is_gone_or_another(run, tmp_path):
    student = students.find(run, **NAME)
    folder = student.tokenizer_folder
    moved = shutil.move(folder, tmp_path / "moved")
    with pytest.raises(UserError, match=r"tokenizer folder .* of random-tiny-gpt2 is gone; .* --tokenizer"):
        student_models.load_tokenizer(student)
    assert student_models.load_tokenizer(student, moved).fingerprint == student.tokenizer_fingerprint
    tokenizers.train_byte_level_bpe(["other words"], 270, folder)
    with pytest.raises(UserError, match=r"is not the one that selective was trained with; .* --tokenizer"):
        student_models.load_tokenizer(student)


@pytest.mark.parametrize("prompt", ["bare", "instruction", "fewshot"])
def test_entries_hold_the_form_of_the_input(prompt):
    """Through JSON and back, what a student reads is what it read in the run."""
    examples = [tasks.Example(f"t/{i}", f"t/{i}", f"Is {i} odd?", i % 2) for i in range(5)]
    task = dataclasses.replace(tasks.get_task("sciq"), instruction="Answer.")
    task = tasks.Task("t", "Answer.", tasks.format_text)
    split = splits.Split(examples[:2], task, prompt, examples[2:])
    experiment = make_experiment(("weak", "ceiling", "finetune"), split)
    config = tiny_config.make_config(task="t", seeds=(3,), methods=("finetune", "p_ik_only"))
    listed = json.loads(json.dumps(describe.list_students(config, experiment)))
    assert [entry["method"] for entry in listed] == ["weak", "ceiling", "finetune", "p_ik_only"]
    assert [entry["has_class_head"] for entry in listed] == [True, True, True, False]
    assert [entry["role"] for entry in listed] == ["weak", "strong", "strong", "strong"]
    config.weak.task = "arc"
    learnt = [entry.get("learnt") for entry in describe.list_students(config, experiment)]
    assert learnt == ["arc", None, None, None] and "learnt" not in listed[0]
    entry = listed[2]
    facts = make_facts(entry)
    assert [facts.classifier_input(example.text) for example in split.examples] == split.texts
    assert bool(entry["shots"]) == (prompt == "fewshot")
    assert entry["is_plain_text"]
    few_shot = prompts_lib.FewShot.from_json(entry["few_shot"])
    assert not few_shot.is_generated
    assert [few_shot.prompt(example.text) for example in split.examples] == split.few_shot_prompts()
    for num_shots in range(4):
        prompts = [few_shot.prompt(example.text, num_shots) for example in split.examples]
        assert prompts == split.few_shot.build(num_shots, split.examples)


def test_entries_of_a_task_whose_answers_are_written():
    """The shots keep their solutions; a run of P(IK) alone lists neither weak model nor ceiling."""
    examples = [tasks.Example(f"t/{i}", f"t/{i}", f"{i} + 1?", 0, f"That is\n#### {i + 1}") for i in range(5)]
    task = tasks.Task("t", "Solve.", tasks.format_text, is_correct=lambda a, b: a == b, stop=("\n\n",))
    split = splits.Split(examples[:2], task, "bare", examples[2:])
    config = types.SimpleNamespace(task="t", seeds=(3,), methods=("p_ik_only",))
    (entry,) = json.loads(json.dumps(describe.list_students(config, make_experiment((), split))))
    assert (entry["method"], entry["role"], entry["has_class_head"]) == ("p_ik_only", "strong", False)
    few_shot = prompts_lib.FewShot.from_json(entry["few_shot"])
    assert few_shot.is_generated and few_shot.answers == "solutions" and few_shot.stop == ("\n\n",)
    assert few_shot == split.few_shot
    assert [few_shot.prompt(example.text) for example in split.examples] == split.few_shot_prompts()
    assert "R: That is\n#### 3" in few_shot.prompt("9 + 1?")


def model_of(name: str) -> types.SimpleNamespace:
    role = "weak" if name == "weak" else "strong"
    return types.SimpleNamespace(role=role, slot=role, number=0)


def make_experiment(classifiers: tuple[str, ...], test: splits.Split):
    """As far as the list of students asks it: seed 3 alone, every training with a key of its own."""
    return types.SimpleNamespace(
        members=range(0),
        inputs=types.SimpleNamespace(by_seed={3: types.SimpleNamespace(test=test)}),
        classifiers=lambda: classifiers,
        split=lambda role, seed, name: test,
        trained=lambda seed, name: types.SimpleNamespace(key=f"{name} {seed}", model=model_of(name)),
    )


def make_facts(entry) -> students.Facts:
    fields = dict.fromkeys((field.name for field in dataclasses.fields(students.Facts)), None)
    return students.Facts(**fields | {key: value for key, value in entry.items() if key in fields})


def test_runs_of_earlier_versions_say_nothing_of_shots(run):
    kept = students.find(run, **NAME).facts.few_shot
    assert kept.shots and kept.instruction
    edit_manifest(run, lambda manifest: [s.pop("few_shot") for s in manifest["students"]])
    edit_manifest(run, lambda manifest: [s.pop("is_plain_text") for s in manifest["students"]])
    facts = students.find(run, **NAME).facts
    assert facts.few_shot is None and not facts.is_plain_text


def test_the_weak_model_of_a_student(finished):
    (weak,) = students.find_weak(students.find(finished, **NAME))
    assert weak == students.find(finished, **NAME | {"method": "weak"})
    student = students.find(finished, **NAME)
    alone = dataclasses.replace(student, facts=dataclasses.replace(student.facts, weak=""))
    assert students.find_weak(alone) == []


def test_every_trained_model_is_listed(finished):
    manifest = manifests.read(finished)
    trained = {stage["key"] for stage in manifest["stages"] if stage["name"] == "train"}
    assert {entry["key"] for entry in manifest["students"]} == trained


def test_the_weak_model_of_a_student_in_a_sweep(run):
    """Of two runs with students of one name, the one of the student's own."""
    manifest = json.loads((run / "manifest.json").read_text())
    for name, key in (("one", None), ("two", "another")):
        folder = run / manifests.RUNS_FOLDER / name
        folder.mkdir(parents=True)
        entries = [entry | ({"key": key} if key else {}) for entry in manifest["students"]]
        (folder / "manifest.json").write_text(json.dumps(manifest | {"students": entries}))
    cells = [{"name": name, "axes": {}} for name in ("one", "two")]
    (run / manifests.SWEEP_FILE).write_text(json.dumps({"cells": cells}))
    student = students.find(run, **NAME, run="one")
    assert students.find_weak(student) == [students.find(run, **NAME | {"method": "weak"}, run="one")]
    with pytest.raises(UserError, match=r"^run is missing: the run in .* has one, two"):
        students.find(run, **NAME | {"method": "weak"})
