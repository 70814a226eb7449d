"""Embeddings by a stage of their own, and probes trained on them: the whole model's embeddings and gradients."""

import dataclasses
import functools
import types

import jax
import numpy as np
import pytest
from fixtures import make_parity
from flax import nnx
from support import tiny_config, training_parts, training_stages

from selw2s_jax import config as config_lib
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs, selective
from selw2s_jax.inference import classify, partials, prefix
from selw2s_jax.models import heads
from selw2s_jax.run import pipeline, preview
from selw2s_jax.runtime import artifacts, preemption
from selw2s_jax.stages import embed, workbench
from selw2s_jax.training import step

CONFIG = make_parity.CONFIGS["gpt2"]


@functools.cache
def make_experiment(workdir, **overrides) -> selective.Experiment:
    """Of probes of GPT-2 on 13 questions."""
    config = tiny_config.make_config(
        strong__model="random-tiny-gpt2",
        training__trained="heads",
        data__num_train=26,
        data__num_test=9,
        execution__score_tokens=48,
        **overrides,
    )
    config = config_lib.normalize(config)
    return selective.Experiment(config, inputs.prepare(config, workdir))


def make(stage: embed.Embed, workdir) -> np.ndarray:
    """What the stage writes, once those that it needs have."""
    bench = workbench.Workbench(artifacts.Store(workdir), workdir)
    for needed in (*stage.needs, stage):
        bench.make(needed)
    return embed.read(bench.store, (stage,), stage.split)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("embed")


@pytest.mark.slow
@pytest.mark.ci
def test_a_stage_that_was_stopped_goes_on_bit_for_bit(workdir, tmp_path, monkeypatch):
    """Its rows are those of each text alone."""
    stage = make_experiment(workdir).embeddings("strong", 0, "student_half")
    expected = make(stage, tmp_path / "whole")
    told = iter([False, False, *[True] * 9])
    reached = types.SimpleNamespace(reached=lambda: next(told), Preempted=preemption.Preempted)
    with monkeypatch.context() as patch, pytest.raises(preemption.Preempted, match="stopped before the end"):
        patch.setattr(classify, "preemption", reached)
        make(stage, tmp_path / "stopped")
    (file,) = (tmp_path / "stopped" / "checkpoints" / stage.key).iterdir()
    kept = partials.Partial(file).load()[0]
    assert 0 < len(kept) < len(stage.split) == 13
    np.testing.assert_array_equal(make(stage, tmp_path / "stopped"), expected)
    assert not list((tmp_path / "stopped" / "checkpoints").iterdir())

    model = workbench.Workbench(artifacts.Store(tmp_path), tmp_path).hold_untouched(
        stage.settings, stage.model
    )
    for row, tokens in list(zip(expected, stage.split.tokens(stage.model), strict=True))[::5]:
        alone = np.asarray(model.hidden_states(tokens[None])[0, -1])
        np.testing.assert_allclose(row, alone, rtol=0, atol=1e-5 * np.abs(alone).max())


def test_seeds_read_the_texts_that_they_share_once(workdir, tmp_path, monkeypatch):
    experiment = make_experiment(workdir, seeds=(0, 1), seed__split=0)
    experiment.targets()
    first, second = (experiment.embeddings("strong", seed, "student_half") for seed in (0, 1))
    new = set(second.split.texts) - set(first.split.texts)
    assert 0 < len(new) < 13 and second.shares == (first,) and f"{len(new)} of them new" in second.detail
    assert experiment.embeddings("strong", 1, "test") is experiment.embeddings("strong", 0, "test")
    asked = []

    def counted(model, tokens, **options):
        asked.append(len(tokens))
        return np.random.default_rng(len(asked)).random((len(tokens), 32), np.float32)

    monkeypatch.setattr(classify, "embed", counted)
    rows = {}
    for stage in (first, second):
        rows[stage] = dict(zip(stage.split.texts, make(stage, tmp_path), strict=True))
    assert asked == [13, len(new)]
    for text in set(second.split.texts) - new:
        np.testing.assert_array_equal(rows[second][text], rows[first][text])


def test_a_stage_that_was_stopped_goes_on_in_a_run_of_other_seeds(workdir, tmp_path, monkeypatch):
    """Where it shares other texts, or none: what it has done already are other ones of its texts."""
    experiment = make_experiment(workdir, seeds=(0, 1), seed__split=0)
    experiment.targets()
    first, second = (experiment.embeddings("strong", seed, "student_half") for seed in (0, 1))
    alone = dataclasses.replace(second, shares=())
    assert alone.key == second.key
    expected = make(alone, tmp_path / "whole")
    make(first, tmp_path / "stopped")
    told = iter([False, False, *[True] * 9])
    reached = types.SimpleNamespace(reached=lambda: next(told), Preempted=preemption.Preempted)
    with monkeypatch.context() as patch, pytest.raises(preemption.Preempted, match="stopped before the end"):
        patch.setattr(classify, "preemption", reached)
        make(second, tmp_path / "stopped")
    np.testing.assert_allclose(make(alone, tmp_path / "stopped"), expected, rtol=0, atol=1e-5)


def make_embedded(sets: dict[int, batches.ExampleSet], model: heads.Classifier):
    """The same examples with embeddings in place of their tokens."""
    found = {}
    for kind, one in sets.items():
        embeddings = classify.embed(model.backbone, one.tokens, batch_tokens=256, label="test")
        columns = one.columns | {batches.EMBEDDINGS: embeddings}
        found[kind] = batches.ExampleSet(one.example_ids, None, columns)
    return found


def test_gradients_of_a_probe_are_those_of_the_classifier(fixtures):
    """Of `selective`: self labels, the graph and P(IK); in micro-batches, of the whole batch."""
    model = training_parts.make_classifier(fixtures, "gpt2", p_ik_head=True)
    probe = heads.Probe(CONFIG.embed_dim, p_ik_head=True, param_dtype="float32")
    nnx.update(probe, _heads_of(model))
    computation = training_parts.make_computation("selective")
    whole = training_parts.make_data(CONFIG, "selective").batch_at(1)
    expected = training_parts.gradients(model, whole, computation, trained="heads")
    data = batches.EmbeddedBatches(
        make_embedded(training_parts.make_sets(CONFIG), model),
        {batches.TASK: 12, batches.P_IK: 12},
        num_steps=3,
        num_micro=3,
        seed=1,
    )
    batch = data.batch_at(1)
    assert batch.tokens.shape == (3, 0, 0) and data.summary == {}
    np.testing.assert_array_equal(np.sort(batch.index.reshape(-1)), np.sort(whole.index.reshape(-1)))
    on_embeddings = computation._replace(forward=step.classify_embeddings)
    found = training_parts.gradients(probe, batch, on_embeddings, trained="heads")
    training_parts.assert_trees_close(found[0], expected[0], 1e-5)
    for name, value in expected[1].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def _heads_of(model: heads.Classifier) -> nnx.State:
    return nnx.state(model, lambda path, _: path[0] in ("class_head", "p_ik_head"))


def test_probabilities_of_embeddings_are_those_of_their_texts(fixtures):
    """Also in several parts."""
    model = training_parts.make_classifier(fixtures, "gpt2", p_ik_head=True)
    tokens = training_parts.make_sets(CONFIG)[batches.TASK].tokens
    options = {"mesh": model.backbone.mesh}
    expected = classify.predict(model, tokens, batch_tokens=256, label="test", **options)
    embeddings = classify.embed(model.backbone, tokens, batch_tokens=256, label="test")
    probe = heads.Probe(CONFIG.embed_dim, p_ik_head=True, param_dtype="float32")
    nnx.update(probe, _heads_of(model))
    for most in (4096, 15):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(classify, "_MOST_EMBEDDINGS", most)
            found = classify.predict_embedded(probe, embeddings, **options)
        jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=1e-6), found, expected)


def test_what_is_trained_may_differ_by_model():
    """And stands in a key as if both models had it."""
    sizes, keys = CONFIG, {}
    for name, trained in {"both": ("lora", None), "own": ("all", "lora"), "none": ("lora", "all")}.items():
        config = config_lib.default_config()
        config.training.trained, config.strong.trained = trained
        stage = training_stages.make("finetune", config, sizes)
        keys[name] = (stage.key, stage.trained, stage.num_bytes)
    assert keys["own"] == keys["both"] != keys["none"]
    assert keys["none"][1] == "all" and keys["none"][2] > keys["both"][2]


def test_the_mode_is_a_choice_and_unknown_embeddings_are_refused(workdir):
    for key, value, message in (
        ("weak__trained", "head", r"config\.weak\.trained='head' is not one of: all, heads, lora; did you"),
        (
            "analysis__embeddings",
            ("strong.tests",),
            "'strong.tests' is not one of: .*did you mean 'strong.test'",
        ),
        ("analysis__embeddings", ("strong.p_ik_test",), "this run has no strong.p_ik_test; leave it out"),
    ):
        with pytest.raises(UserError, match=message):
            pipeline.show(tiny_config.make_config(methods=("finetune",), **{key: value}), workdir)


def test_a_run_embeds_what_an_analysis_asks_for(workdir):
    experiment = make_experiment(
        workdir, strong__trained="all", weak__trained="all", analysis__embeddings=("strong.test",)
    )
    experiment.targets()
    assert list(experiment.all_embeddings()) == [("strong", 0, "test")]


def test_texts_with_shots_share_them_and_the_weak_model_may_read_another_form(workdir, tmp_path):
    """Rows are those of whole texts; the weak model's texts, and its keys, are those of a run of that form alone."""
    experiment = make_experiment(workdir, p_ik__prompt="fewshot", weak__prompt="bare")
    stage = experiment.embeddings("strong", 0, "student_half")
    tokens = stage.split.tokens(stage.model)
    (group,) = prefix.group(tokens)
    assert group.length >= prefix.MIN_TOKENS and len(group.members) == 13
    found = make(stage, tmp_path)
    model = workbench.Workbench(artifacts.Store(tmp_path), tmp_path).hold_untouched(
        stage.settings, stage.model
    )
    whole = classify.embed(model, tokens, batch_tokens=48, label="test")
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5 * np.abs(whole).max())

    bare = make_experiment(workdir)
    assert [s.prompt for s in (experiment.weak(0).task.split, stage.split)] == ["bare", "fewshot"]
    for split_name in ("weak_half", "student_half", "test"):
        ours, theirs = (one.embeddings("weak", 0, split_name) for one in (experiment, bare))
        assert ours.key == theirs.key
    assert experiment.weak(0).key == bare.weak(0).key
    assert experiment.evaluation(0, "weak").split.texts == bare.evaluation(0, "weak").split.texts
    shown = {one["reader"]: one["text"] for one in preview.describe(experiment)}
    assert shown["weak model"] == bare.inputs.test.texts[0] and shown["students"] == stage.split.read_as(
        "fewshot"
    ).few_shot.prompt(bare.inputs.test.examples[0].text)
