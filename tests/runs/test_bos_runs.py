"""A run with a tokenizer that puts a BOS token in front: training, answers, export and predict read the same ids."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from support import asking, tiny_config, tokenizer_folders

import selw2s_jax
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs as inputs_lib
from selw2s_jax.export import exports
from selw2s_jax.hf import loader, random_checkpoint
from selw2s_jax.inference import candidates
from selw2s_jax.run import pipeline, student_models, students
from selw2s_jax.runtime import artifacts
from selw2s_jax.worlds import smoke

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class Finished:
    workdir: pathlib.Path
    inputs: inputs_lib.Inputs
    results: dict

    def table(self, label: str, file: str) -> dict[str, np.ndarray]:
        """The table of the stage of that label."""
        (stage,) = (stage for stage in self.results["manifest"]["stages"] if stage["label"] == label)
        return artifacts.Store(self.workdir).find_by_key(stage["name"], stage["key"]).read_table(file)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> pathlib.Path:
    """A model whose tokenizer is a tokenizer.model of Llama's style."""
    folder = tokenizer_folders.write_llama(tmp_path_factory.mktemp("llama"))
    sizes = dataclasses.replace(smoke.RANDOM_MODELS["random-tiny-gpt2"], vocab_size=340)
    random_checkpoint.write_random_checkpoint(folder, sizes)
    return folder


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory) -> Finished:
    config = tiny_config.make_config(
        weak__model=str(model),
        strong__model=str(model),
        methods=("selective",),
        p_ik__prompt="instruction",
        data__max_length=60,
        data__overlong="truncate",
        precision__compute_dtype="float32",
    )
    workdir = tmp_path_factory.mktemp("runs") / "bos"
    return Finished(workdir, inputs_lib.prepare(config, workdir), pipeline.run(config, workdir))


@pytest.fixture(scope="module")
def student(finished) -> students.Student:
    return students.find(finished.workdir, task="sciq", method="selective", seed=0)


def class_probs(classifier, ids) -> np.ndarray:
    tokens, first = np.array([ids], np.int32), np.zeros(1, np.int32)
    outputs = classifier(tokens, None, None, first, first + len(ids) - 1)
    return np.asarray(jax.nn.softmax(outputs.class_logits))[0]


def test_the_results_say_so(finished, student, model):
    said = "<s> (id 1) is put in front of every text (tokenizer.model, by its kind)"
    assert {f"{role}.model={model}: {said}" for role in ("weak", "strong")} <= set(finished.results["notes"])
    assert student.facts.bos_id == 1 and student_models.load_tokenizer(student).bos_id == 1


def test_the_exported_student_reads_what_the_run_read(finished, student, tmp_path):
    """By the two lines of its model card, also of texts that are truncated."""
    exports.save(student, tmp_path / "out")
    facts = exports.read_facts(tmp_path / "out")
    assert facts.bos_id == 1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "id 1, in front of every text" in card and "[1, *tokenizer.encode(TEXT)[-59:]]" in card
    tokenizer = selw2s_jax.load_tokenizer(tmp_path / "out", bos="off")
    classifier = exports.load(tmp_path / "out")
    kept = finished.table("evaluation of selective, seed 0", "predictions.parquet")
    texts = {line["example_id"]: line["text"] for line in ask(student, finished, tmp_path)}
    lengths_seen = []
    for name, prob in zip(kept["example_id"][:9], kept["prob_1"][:9], strict=True):
        ids = tokenizer.encode(facts.classifier_input(texts[name]))
        lengths_seen.append(len(ids))
        np.testing.assert_allclose(class_probs(classifier, [1, *ids[-59:]])[1], prob, atol=1e-6)
        if len(ids) > 59:
            assert abs(class_probs(classifier, ids[-60:])[1] - prob) > 1e-7
    assert max(lengths_seen) > 59


def ask(student, finished, folder) -> list[dict]:
    """What `predict` says of the test questions."""
    examples = finished.inputs.test.examples
    lines = [json.dumps({"example_id": example.example_id, "text": example.text}) for example in examples]
    (folder / "questions.jsonl").write_text("\n".join(lines))
    return asking.write(student, folder / "questions.jsonl", folder / "answers.jsonl")


def test_predict_says_what_the_run_says(finished, student, tmp_path):
    lines = {line["example_id"]: line for line in ask(student, finished, tmp_path)}
    kept = finished.table("evaluation of selective, seed 0", "predictions.parquet")
    ours = [lines[name]["prob_1"] for name in kept["example_id"]]
    np.testing.assert_allclose(ours, kept["prob_1"], rtol=0, atol=1e-6)


def test_few_shot_answers_read_it(finished):
    model, split = finished.inputs.strong, finished.inputs.by_seed[0].student_half
    kept = finished.table("few-shot answers on sciq (student's half), seed 0", "answers.parquet")
    by_id = dict(zip(kept["example_id"], kept["log_odds"], strict=True))
    options = {"param_dtype": "float32", "compute_dtype": "float32", "lm_head": True}
    decoder = loader.load_decoder(model.folder, **options)
    for name, prompt in list(zip(split.ids, split.few_shot_prompts(), strict=True))[:3]:
        own, found = candidates.encode(model.tokenizer, prompt, [" 0", " 1"])
        zero, one = (ids[-1] for ids in found)
        read = np.concatenate([own, found[1][:-1]])  # with the mark of ` 0` and ` 1`
        assert read[0] == 1
        logits = decoder.lm_logits(decoder.hidden_states(read[None]))[0, -1]
        np.testing.assert_allclose(by_id[name], logits[one] - logits[zero], rtol=0, atol=2e-4)


def test_a_student_of_a_run_without_it_is_not_asked_with_it(student, model):
    assert selw2s_jax.load_tokenizer(model, bos="off").fingerprint != student.tokenizer_fingerprint
    without = dataclasses.replace(student, facts=dataclasses.replace(student.facts, bos_id=None))
    with pytest.raises(UserError, match="is not the one that selective was trained with"):
        student_models.load_tokenizer(without)
