"""Several weak models that teach together: which stages there are, what each learns, and whole runs."""

import dataclasses
import json

import numpy as np
import pytest
from support import item_runs, tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, inputs, plugins, selective, unread
from selw2s_jax.report import document, numbers, stored
from selw2s_jax.run import forms, pipeline
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import combine, predict
from selw2s_jax.stages import stage as stage_lib

GPT2, QWEN = "random-tiny-gpt2", "random-tiny-qwen"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Where generated inputs are made."""
    return tmp_path_factory.mktemp("members")


def make_config(*members: str, **overrides):
    """A run of `finetune` on labels of these weak models, or of `weak.model` without any."""
    overrides = {"methods": ("finetune",), "weak__model": None if members else GPT2} | overrides
    return tiny_config.make_config(**overrides, weak__members=members)


def make(config, workdir) -> selective.Experiment:
    config = config_lib.normalize(config)
    checks.validate(config)
    plugins.check_methods(config)
    return selective.Experiment(config, inputs.prepare(config, workdir))


def keys(experiment) -> list[str]:
    targets = [stage for of_model in experiment.targets() for stage in of_model]
    return [stage.key for stage in stage_lib.in_order(targets)]


def test_one_member_is_the_weak_model(workdir):
    one, alone = make(make_config(GPT2), workdir), make(make_config(), workdir)
    assert keys(one) == keys(alone)
    labels = [
        [stage.label for stage in stage_lib.in_order(s for u in e.targets() for s in u)] for e in (one, alone)
    ]
    assert labels[0] == labels[1]


def test_members_differ_in_order_and_the_first_is_the_weak_model(workdir):
    three = make(make_config(GPT2, GPT2, QWEN), workdir)
    assert three.weak(0, 0).key == make(make_config(), workdir).weak(0).key
    first, second, third = (three.weak(0, number) for number in range(3))
    assert [model.slot for model in three.inputs.models] == ["weak", "weak-1", "weak-2", "strong"]
    same = {name: value for name, value in first.inputs.items() if second.inputs[name] != value}
    assert same.keys() == {"order_seed"}
    assert first.model.fingerprint == second.model.fingerprint != third.model.fingerprint
    labels = three.weak_labels(0)
    assert isinstance(labels, combine.Combine) and len(labels.members) == 3
    assert three.student(0, "finetune").task.columns["weak_probs"].labels is labels
    votes = make(make_config(GPT2, GPT2, QWEN, weak__combine="votes"), workdir).weak_labels(0)
    assert votes.key != labels.key and [one.key for one in votes.members] == [
        one.key for one in labels.members
    ]


def test_disjoint_parts_are_whole_questions_and_make_the_half(workdir):
    experiment = make(make_config(GPT2, GPT2, QWEN, weak__rows="disjoint", data__num_train=101), workdir)
    parts = [experiment.weak(0, number).task.split for number in range(3)]
    half = experiment.inputs.by_seed[0].weak_half
    assert sorted(name for part in parts for name in part.ids) == sorted(half.ids)
    groups = [{example.group for example in part.examples} for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_a_bootstrap_draws_as_many_questions_as_there_are(workdir):
    config = make_config(GPT2, GPT2, weak__rows="bootstrap")
    first, again = make(config, workdir), make(config, workdir)
    counts = []
    for number in range(2):
        task = first.weak(0, number).task
        weights = task.columns["example_weight"].read(task.split, None)
        # A question is one example here.
        assert weights.sum() == len(task.split) and weights.max() > 1 and weights.min() == 0
        assert first.weak(0, number).key == again.weak(0, number).key
        counts.append(weights.tolist())
    assert counts[0] != counts[1]


def test_another_tasks_truth_is_that_of_a_run_on_it(workdir):
    shifted = make(make_config(weak__task="boolq"), workdir)
    own, other = make(make_config(), workdir), make(make_config(task="boolq"), workdir)
    assert shifted.weak(0).key == other.weak(0).key
    assert shifted.weak(0).task.split.task.name == "boolq"
    for name in ("student_half", "test"):
        assert (
            getattr(shifted.inputs.by_seed[0], name).texts_hash
            == getattr(own.inputs.by_seed[0], name).texts_hash
        )
    assert shifted.ceiling(0).key == own.ceiling(0).key
    assert shifted.weak_labels(0).split.ids == own.weak_labels(0).split.ids
    assert not shifted.inputs.is_papers_data
    assert make(make_config(weak__task="sciq"), workdir).weak(0).key == own.weak(0).key
    mixed = make(make_config(GPT2, f"{GPT2}@boolq"), workdir)
    assert mixed.weak(0, 0).key == own.weak(0).key
    assert mixed.weak(0, 1).task.split.texts_hash == other.weak(0).task.split.texts_hash


def test_folds_of_a_calibration_are_held_out_of_every_member(workdir):
    overrides = {
        "methods": ("posterior",),
        "p_ik__num_test": 20,
        "calibration__folds": 2,
        "weak__rows": "disjoint",
    }
    experiment = make(make_config(GPT2, GPT2, **overrides), workdir)
    calibration = experiment.calibration(0)
    assert sorted(name for fold in calibration.folds for name in fold.split.ids) == sorted(
        calibration.weak_half.ids
    )
    for fold in calibration.folds:
        for member in fold.members:
            assert member.split.ids == fold.split.ids
            assert not set(member.trained.task.split.ids) & set(fold.split.ids)
            assert len(member.trained.task.split)


class _Bench:
    def __init__(self, store):
        self.store = store


_WEIGHED = ("finetune", "reweighted_by_agreement", "shuffled_weights_by_agreement")


def test_rows_that_are_weighed(workdir):
    """Their students differ in weights alone, and what is read for these is read of no others."""
    experiment = make(make_config(GPT2, GPT2, methods=_WEIGHED), workdir)
    plain, weighed, control = (experiment.student(0, name) for name in _WEIGHED)
    assert plain.key == make(make_config(GPT2, GPT2), workdir).student(0, "finetune").key
    for one in (weighed, control):
        differing = {name for name in one.inputs if one.inputs[name] != plain.inputs.get(name)}
        assert differing == {"example_weight"} and plain.inputs.keys() == one.inputs.keys() - differing
        assert set(one.needs) == {*plain.needs, *plain.task.columns["weak_probs"].labels.members}
    warmer = make(make_config(GPT2, GPT2, methods=_WEIGHED, reliability__temperature=0.7), workdir)
    changed = [name for name in _WEIGHED if warmer.student(0, name).key != experiment.student(0, name).key]
    assert changed == list(_WEIGHED[1:])
    assert not [note for note in unread.check([warmer.config]) if "reliability" in note or "seed" in note]
    with pytest.raises(UserError, match=r"reliability\.temperature=0\.7 is read by nothing"):
        unread.check([config_lib.normalize(make_config(GPT2, GPT2, reliability__temperature=0.7))])


def test_the_mean_by_hand(workdir, tmp_path):
    experiment = make(make_config(GPT2, GPT2, methods=_WEIGHED), workdir)
    labels, store = experiment.weak_labels(0), artifacts.Store(tmp_path)
    split, random = labels.split, np.random.default_rng(0)
    each = random.random((2, len(split))).astype(np.float32)
    for member, prob_1 in zip(labels.members, each, strict=True):
        with store.filling(member.name, member.inputs) as folder:
            order = random.permutation(len(split))  # rows join by id
            ids = [split.ids[row] for row in order]
            values = {"prob_0": 1 - prob_1[order], "prob_1": prob_1[order]}
            artifacts.write_table(folder / predict.FILE, {"example_id": ids, **values})
    with store.filling(labels.name, labels.inputs) as folder:
        labels.write(folder, _Bench(store))
    found = experiment.weak_column(0).read(split, store)
    expected = each.astype(np.float64).mean(0).astype(np.float32)
    np.testing.assert_array_equal(found[:, 1], expected)
    by_member = experiment.weak_each(0).read(split, store)
    assert by_member.shape == (len(split), 2, 2) and by_member.dtype == np.float32
    np.testing.assert_array_equal(by_member[:, :, 1], each.T)
    # Weights of rows: of two models those that agree, or half of one that do not; its control has the same ones.
    weighed, control = (
        experiment.student(0, f"{name}_by_agreement").task.columns["example_weight"]
        for name in ("reweighted", "shuffled_weights")
    )
    agrees = (each[0] > 0.5) == (each[1] > 0.5)
    weights, shuffled = (column.read(split, store) for column in (weighed, control))
    np.testing.assert_array_equal(weights, np.where(agrees, np.float32(1), np.float32(0.5)))
    np.testing.assert_array_equal(np.sort(shuffled), np.sort(weights))
    assert (shuffled != weights).any()
    noisy = dataclasses.replace(experiment.weak_each(0), noise=1.0)
    np.testing.assert_array_equal(noisy.read(split, store), by_member[..., ::-1])


@pytest.mark.parametrize(
    ("members", "overrides", "words"),
    [
        ((GPT2,), {"weak__model": GPT2}, "in the place of weak.model"),
        (("@boolq",), {}, "without a model"),
        ((GPT2, "hf://org/name@boolq"), {}, "config.weak.members=hf://org/name is not taken"),
        ((GPT2, f"{GPT2}@nothing"), {}, "unknown task of config.weak.task or weak.members 'nothing'"),
        ((), {"weak__task": "gsm8k"}, "has answers to write"),
        ((GPT2, QWEN), {"weak__tokenizer": "/folder"}, "is of one model"),
        ((GPT2, GPT2), {"weak__rows": "some"}, "weak.rows='some' is not one of"),
        ((GPT2, GPT2), {"weak__combine": "median"}, "weak.combine='median' is not one of"),
        ((GPT2,) * 40, {"weak__rows": "disjoint"}, "40 weak models share 32 question"),
        ((GPT2,), {"methods": ("selective_by_disagreement",)}, "there is one: name several"),
        ((GPT2,), {"methods": ("reweighted_by_agreement",)}, "there is one: name several"),
        (
            (GPT2, f"{GPT2}@boolq"),
            {"methods": ("posterior",), "p_ik__num_test": 20},
            "learn different ones: set calibration.weak=none",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(workdir, members, overrides, words):
    with pytest.raises(UserError, match=words) as caught:
        make(make_config(*members, **overrides), workdir).targets()
    assert "\n" not in str(caught.value)


def answers(workdir, label: str) -> list[float]:
    """The test predictions of the model of that label, which tell its weights apart."""
    manifest = json.loads((workdir / "manifest.json").read_text())
    (key,) = (one["key"] for one in manifest["stages"] if one["label"] == f"evaluation of {label}")
    return (
        artifacts.Store(workdir).find_by_key("predictions", key).read_table(predict.FILE)["prob_1"].tolist()
    )


RUN = {
    "methods": (
        "finetune",
        "raven",
        "selective_by_disagreement",
        "random_selection_by_disagreement",
        "reweighted_by_agreement",
    )
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a finished run of two weak models."""
    folder = tmp_path_factory.mktemp("run")
    pipeline.run(make_config(GPT2, GPT2, weak__rows="disjoint", **RUN), folder)
    return folder


@pytest.mark.slow
@pytest.mark.ci
def test_pgr_is_measured_against_the_mean_of_the_members(finished):
    report = json.loads((finished / "results.json").read_text())
    members, records = report["members"], {one["method"]: one for one in report["records"]}
    assert [one["member"] for one in members] == ["weak-0", "weak-1"]
    mean = np.mean([one["test_correct"] for one in members]) / 33
    assert records["weak"]["members_accuracy"] == mean
    assert all(one["together_correct"] == records["weak"]["correct"] for one in members)
    gap = records["ceiling"]["accuracy"] - mean
    pgr = (records["finetune"]["accuracy"] - mean) / gap if gap > 0 else None
    assert records["finetune"]["pgr"] == pytest.approx(pgr)
    run = stored.read_run(finished)
    assert numbers.gap_recovered(run, "finetune").value == pytest.approx(pgr)
    assert run.weak == f"{GPT2} + {GPT2}" and list(run.members) == ["weak-0", "weak-1"]
    item_runs.assert_results_are_theirs(finished)
    files = document.files([run])
    assert "the best by the truth" in files["members_together.md"].decode()


@pytest.mark.slow
@pytest.mark.ci
def test_random_rows_are_as_many_as_the_members_disagree_on(finished):
    report = json.loads((finished / "results.json").read_text())
    rates = {one["method"]: one["all"]["ik_rate"] for one in report["diagnostics"]}
    of_method, of_control = (
        rates[name] for name in ("selective_by_disagreement", "random_selection_by_disagreement")
    )
    assert of_method == of_control  # one epoch: every row once
    share = 1 - report["members"][0]["agreement"]
    assert of_method == pytest.approx(share)


@pytest.mark.slow
def test_ground_truth_of_the_students_half_reaches_no_student(finished, tmp_path, monkeypatch):
    real_prepare = inputs.prepare

    def flipped_prepare(*arguments, **options):
        found = real_prepare(*arguments, **options)
        by_seed = {}
        for seed, data in found.by_seed.items():
            flipped = [dataclasses.replace(one, label=1 - one.label) for one in data.student_half.examples]
            half = dataclasses.replace(data.student_half, examples=flipped)
            by_seed[seed] = dataclasses.replace(data, student_half=half)
        return dataclasses.replace(found, by_seed=by_seed)

    flipped = forms.FORMS["class_head"]._replace(prepare=flipped_prepare)
    monkeypatch.setitem(forms.FORMS, "class_head", flipped)
    pipeline.run(make_config(GPT2, GPT2, weak__rows="disjoint", **RUN), tmp_path)
    for name in RUN["methods"]:
        assert answers(tmp_path, f"{name}, seed 0") == answers(finished, f"{name}, seed 0")
    assert answers(tmp_path, "ceiling, seed 0") != answers(finished, "ceiling, seed 0")
