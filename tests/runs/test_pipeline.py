"""The whole run on generated inputs: what is made, what is found again, and what depends on what."""

import gc
import json
import pathlib
import shutil

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from flax import nnx
from support import tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.data import lengths
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs, selective
from selw2s_jax.run import forms, pipeline, plan_text
from selw2s_jax.runtime import artifacts, timing
from selw2s_jax.stages import workbench
from selw2s_jax.worlds import generated

# Compiled by a run of two models and two students, where nothing was before it: one more is one that is made anew for
# what another was made for.
_MOST_PROGRAMS = 24


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
    """The workdir of a finished run of `finetune` and `selective`."""
    workdir = tmp_path_factory.mktemp("run")
    with timing.Programs() as made:
        pipeline.run(tiny_config.make_config(), workdir)
    assert made.count <= _MOST_PROGRAMS
    return workdir


@pytest.fixture(autouse=True)
def every_stage_in_the_plan(monkeypatch):
    """As --dry_run has it, for `stage_states`."""
    monkeypatch.setattr(
        plan_text, "folded", lambda stages, state: plan_text.whole(stages, state, dict.fromkeys(state, ""))
    )


def stage_states(capsys) -> dict[str, bool]:
    """Label of each stage in the printed plan -> whether it was done already."""
    lines = capsys.readouterr().out.splitlines()
    return {
        line.split("  ")[2].strip() if line.startswith("  done") else line[10:].split("  ")[0]: "done"
        in line[:8]
        for line in lines
        if line.startswith(("  done", "  to run"))
    }


def weights(workdir: pathlib.Path, label: str) -> dict[str, bytes]:
    """Raw bytes of the trained parameters of the stage of that label."""
    import orbax.checkpoint as ocp

    for summary in workdir.glob("artifacts/train/*/summary.json"):
        if json.loads(summary.read_text())["label"] == label:
            with ocp.StandardCheckpointer() as checkpointer:
                tree = checkpointer.restore(summary.parent.absolute() / "params")
            flat = {}
            stack = [("", tree)]
            while stack:
                name, node = stack.pop()
                if isinstance(node, dict):
                    stack += [(f"{name}/{key}", value) for key, value in node.items()]
                else:
                    flat[name] = np.asarray(node).tobytes()
            return flat
    raise AssertionError(f"no stage {label!r} in {workdir}")


def read_parquet(path: pathlib.Path):
    # read_table would take a folder named `a=b` for a partition.
    with pq.ParquetFile(path) as file:
        return file.read()


@pytest.mark.slow
@pytest.mark.ci
def test_results_hold_every_method_and_the_counts_of_its_predictions(finished):
    report = json.loads((finished / "results.json").read_text())
    records = {record["method"]: record for record in report["records"]}
    assert list(records) == ["weak", "ceiling", "finetune", "selective"]
    for record in records.values():
        assert record["n"] == 33 and record["accuracy"] == record["correct"] / 33
        assert record.keys() >= {"task", "method", "weak", "strong", "seed", "pgr", "pgr_reason"}
        assert 0 <= record["auroc"] <= 1
    gap = records["ceiling"]["accuracy"] - records["weak"]["accuracy"]
    if gap > 0:
        expected = (records["selective"]["accuracy"] - records["weak"]["accuracy"]) / gap
        assert records["selective"]["pgr"] == pytest.approx(expected)
    else:
        assert records["selective"]["pgr"] is None and "ceiling" in records["selective"]["pgr_reason"]
    assert records["weak"]["pgr"] is None and records["weak"]["pgr_reason"]
    diagnosis = report["diagnostics"][0]
    assert diagnosis["method"] == "selective" and diagnosis["all"]["rows"] == 4 * 8
    assert report["manifest"]["config"]["task"] == "sciq"


@pytest.mark.slow
@pytest.mark.ci
def test_the_same_command_again_trains_nothing_and_says_the_same(finished, capsys):
    before = (finished / "results.json").read_text()
    artifacts_before = sorted(finished.glob("artifacts/*/*"))
    with timing.Programs() as made:
        pipeline.run(tiny_config.make_config(), finished)
    states = stage_states(capsys)
    assert states and all(states.values())
    assert made.count == 0
    assert (finished / "results.json").read_text() == before
    assert sorted(finished.glob("artifacts/*/*")) == artifacts_before


@pytest.mark.slow
@pytest.mark.ci
def test_fields_that_change_no_result_retrain_nothing(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    config = tiny_config.make_config(
        training__micro_batch_size=4,
        execution__score_tokens=999,
        execution__remat="none",
        logging__every_steps=5,
        mesh__shape=(1, 1, 1),
        methods=("selective",),
    )
    pipeline.run(config, tmp_path / "run")
    states = stage_states(capsys)
    assert states and all(states.values())
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["training"]["micro_batch_size"] == 4


@pytest.mark.slow
@pytest.mark.ci
def test_gamma_concerns_only_the_selective_student(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    pipeline.run(tiny_config.make_config(p_ik__gamma=0.3), tmp_path / "run")
    states = stage_states(capsys)
    assert {label for label, done in states.items() if not done} == {
        "selective, seed 0",
        "evaluation of selective, seed 0",
    }


@pytest.mark.slow
@pytest.mark.ci
def test_another_run_elsewhere_gives_the_same_weights_bit_for_bit(finished, tmp_path):
    pipeline.run(tiny_config.make_config(), tmp_path)
    for label in ("weak, seed 0", "selective, seed 0"):
        assert weights(tmp_path, label) == weights(finished, label)


@pytest.mark.slow
@pytest.mark.ci
def test_ground_truth_of_the_students_half_reaches_no_student(finished, tmp_path, monkeypatch):
    """Flipping the labels (not the texts) of the student's half changes no student's weights."""
    real_prepare = inputs.prepare

    def flipped_prepare(*arguments, **options):
        found = real_prepare(*arguments, **options)
        for data in found.by_seed.values():
            labels = data.student_half.labels
            labels[:] = 1 - labels
        return found

    flipped = forms.FORMS["class_head"]._replace(prepare=flipped_prepare)
    monkeypatch.setitem(forms.FORMS, "class_head", flipped)
    pipeline.run(tiny_config.make_config(), tmp_path)
    for label in ("finetune, seed 0", "selective, seed 0"):
        assert weights(tmp_path, label) == weights(finished, label)
    assert weights(tmp_path, "ceiling, seed 0") != weights(finished, "ceiling, seed 0")


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        dict(p_ik__stage="pretrain_then_joint"),
        dict(p_ik__stage="frozen", p_ik__mask="frozen_scores"),
        dict(p_ik__mask="frozen_scores", self_label__soft=True),
        dict(self_label__source="class_head", p_ik__num_samples=3, graph__center=True),
        dict(p_ik__prompt="instruction", data__conversion="balanced_pair", data__reshuffle=False),
        dict(p_ik__prompt="fewshot", data__conversion="all", data__sample="first"),
        dict(ceiling__split="both", compat__openai_pooling=True, p_ik__temperature=0.0),
        dict(task="boolq", p_ik__task="cosmos_qa", data__overlong="truncate", data__max_length=40),
        dict(methods=("confidence",), seeds=(3, 4), task="cosmos_qa", precision__compute_dtype="bfloat16"),
        dict(
            precision__param_dtype="bfloat16", precision__moment_dtype="bfloat16", logging__tensorboard=True
        ),
    ],
    ids=lambda overrides: ",".join(overrides),
)
def test_every_switch_runs(tmp_path, overrides):
    report = pipeline.run(tiny_config.make_config(**overrides), tmp_path)
    methods = overrides.get("methods", ("finetune", "selective"))
    seeds = overrides.get("seeds", (0,))
    assert len(report["records"]) == (2 + len(methods)) * len(seeds)
    assert all(np.isfinite(record["accuracy"]) for record in report["records"])


@pytest.mark.slow
def test_p_ik_alone_is_trained_where_the_student_does_not_train_it(tmp_path):
    """And its scores make the mask and are the ones that the diagnostics judge."""
    config = tiny_config.make_config(p_ik__stage="frozen", p_ik__mask="frozen_scores", methods=("selective",))
    config.p_ik.gamma = 0.48
    report = pipeline.run(config, tmp_path)
    keys = {entry["label"]: entry["key"] for entry in report["manifest"]["stages"]}
    folder = tmp_path / "artifacts" / "train" / keys["P(IK) alone, seed 0"]
    assert json.loads((folder / "summary.json").read_text())["last_step"]["grad_norm"] > 0.01
    scores = read_parquet(
        tmp_path / "artifacts" / "predictions" / keys["P(IK) scores, seed 0"] / "predictions.parquet"
    )
    by_id = dict(zip(scores["example_id"].to_pylist(), scores["p_ik"].to_pylist(), strict=True))
    assert np.ptp(list(by_id.values())) > 1e-3
    trace = read_parquet(tmp_path / "artifacts" / "train" / keys["selective, seed 0"] / "trace.parquet")
    ids, traced = trace["example_id"].to_pylist(), trace["p_ik"].to_numpy()
    np.testing.assert_array_equal(traced, np.array([by_id[name] for name in ids], np.float32))
    np.testing.assert_array_equal(trace["ik_mask"].to_numpy(), traced > np.float32(0.48))


def test_no_p_ik_text_is_the_students_or_the_tests(tmp_path):
    """P(IK) is trained with ground truth, so a text of the student's half would leak its label."""
    rows = [{"text": f"number {i} is even", "label": 1 - i % 2} for i in range(120)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "p_ik.jsonl").write_text("\n".join(map(json.dumps, rows[:60] + [
        {"text": f"figure {i} is odd", "label": i % 2} for i in range(40)
    ])))  # fmt: skip
    config = tiny_config.make_config(task="parity", data__train_file=str(tmp_path / "own.jsonl"))
    config.p_ik.task, config.p_ik.file = "figures", str(tmp_path / "p_ik.jsonl")
    found = inputs.prepare(config, tmp_path / "run")
    data = found.by_seed[0]
    mine = {example.text for split in (data.student_half, data.test) for example in split.examples}
    assert not mine & {example.text for example in data.p_ik.examples}
    assert any("p_ik:" in note and "dropped" in note for note in found.notes)
    config.p_ik.file = str(tmp_path / "own.jsonl")
    with pytest.raises(UserError, match="student's own file"):
        inputs.prepare(config, tmp_path / "run")
    config.p_ik.file = str(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match=r"none\.jsonl is missing or not a file; check the path"):
        inputs.prepare(config, tmp_path / "run")


def test_a_tasks_other_spelling_is_the_same_task(tmp_path):
    config = tiny_config.make_config(task="cosmosqa", p_ik__task="cosmos_qa")
    with pytest.raises(UserError, match="student's own task"):
        pipeline.run(config, tmp_path)


def test_examples_too_long_for_any_model_that_reads_them_are_dropped_and_counted(tmp_path):
    config = tiny_config.make_config(task="boolq", data__max_length=24, ceiling__split="both")
    found = inputs.prepare(config, tmp_path)
    data = found.by_seed[0]
    for split in (data.weak_half, data.student_half):
        for model in (*found.weak, found.strong):
            assert not lengths.is_overlong(split.texts, model).any()
    assert any(note.startswith("weak_half:") and "dropped" in note for note in found.notes)
    assert len(data.test) == 33
    config.data.overlong = "truncate"
    notes = inputs.prepare(config, tmp_path).notes
    assert any(note.startswith("student_half:") and "truncated" in note for note in notes)


@pytest.mark.slow
def test_label_files_are_joined_by_example_id(tmp_path, finished):
    config = tiny_config.make_config(methods=("selective",))
    found = inputs.prepare(config_lib.normalize(config), finished)
    half = found.by_seed[0].student_half
    rows = [
        {"example_id": name, "label": int(label)} for name, label in zip(half.ids, half.labels, strict=True)
    ]
    scores = [{"example_id": name, "p_ik": 0.95} for name in half.ids]
    (tmp_path / "self.jsonl").write_text("\n".join(map(json.dumps, reversed(rows))))
    (tmp_path / "scores.jsonl").write_text("\n".join(map(json.dumps, scores)))
    config.self_label.source, config.self_label.file = "file", str(tmp_path / "self.jsonl")
    config.p_ik.mask, config.p_ik.scores_file = "file", str(tmp_path / "scores.jsonl")
    config.p_ik.stage = "frozen"
    workdir = tmp_path / "run"
    pipeline.run(config, workdir)
    trace = next(workdir.glob("artifacts/train/*/trace.parquet"))
    artifact = artifacts.Artifact("train", "test", trace.parent, _manifest_files(trace.parent))
    table = artifact.read_table("trace.parquet")
    truth = dict(zip(half.ids, half.labels.tolist(), strict=True))
    assert table["ik_mask"].all()
    assert all(
        target == truth[name] for name, target in zip(table["example_id"], table["target"], strict=True)
    )

    (tmp_path / "self.jsonl").write_text("\n".join(map(json.dumps, rows[1:])))
    with pytest.raises(UserError, match=f"lacks 1 of 32 example_ids .first: {rows[0]['example_id']}"):
        pipeline.run(config, tmp_path / "other")


def _manifest_files(folder: pathlib.Path):
    return json.loads((folder / "manifest.json").read_text())["files"]


@pytest.mark.slow
def test_a_users_own_file_is_a_task(tmp_path):
    rows = [{"text": f"the number {i} is even", "label": 1 - i % 2} for i in range(90)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = tiny_config.make_config(
        task="parity", methods=("finetune",), data__train_file=str(tmp_path / "own.jsonl")
    )
    config.data.num_test = None
    report = pipeline.run(config, tmp_path / "run")
    assert {record["task"] for record in report["records"]} == {"parity"}
    assert 5 <= report["records"][0]["n"] <= 35


@pytest.mark.slow
@pytest.mark.ci
def test_damaged_artifacts_are_refused_by_name(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    victim = next((tmp_path / "run").glob("artifacts/predictions/*/predictions.parquet"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(UserError, match=r"artifact predictions/\w+ is damaged: predictions.parquet .*delete"):
        pipeline.run(tiny_config.make_config(), tmp_path / "run")


@pytest.mark.slow
def test_real_files_are_read_in_place(tmp_path):
    """`data.source` may be any folder of the same layout; the generated one is an example of it."""
    generated.write_generated_data(tmp_path / "data", seed=4, num_train=60, num_test=20)
    config = tiny_config.make_config(
        data__source=str(tmp_path / "data"), methods=("finetune",), data__num_test=None
    )
    report = pipeline.run(config, tmp_path / "run")
    assert report["records"][0]["n"] == 20


@pytest.mark.slow
def test_weights_come_back_from_their_artifact_as_training_left_them(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    report = pipeline.run(tiny_config.make_config(), tmp_path / "run")
    labels = ("evaluation of weak, seed 0", "evaluation of selective, seed 0")
    keys = {entry["label"]: entry["key"] for entry in report["manifest"]["stages"]}
    before = {}
    for label in labels:
        folder = tmp_path / "run" / "artifacts" / "predictions" / keys[label]
        before[label] = (folder / "predictions.parquet").read_bytes()
        shutil.rmtree(folder)
    assert pipeline.run(tiny_config.make_config(), tmp_path / "run")["records"] == report["records"]
    for label in labels:
        folder = tmp_path / "run" / "artifacts" / "predictions" / keys[label]
        assert (folder / "predictions.parquet").read_bytes() == before[label]


@pytest.fixture
def without_automatic_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.slow
def test_a_released_model_leaves_no_array_on_the_devices(without_automatic_gc, tmp_path):
    """There may be room for one model only: none may wait in reference cycles for the garbage collector."""
    config = tiny_config.make_config()
    found = inputs.prepare(config, tmp_path)
    experiment = selective.Experiment(config, found)
    trained, answers = experiment.ceiling(0), experiment.answers(0, "student_half")
    bench = workbench.Workbench(artifacts.Store(tmp_path), tmp_path)
    held = (
        lambda: (bench.make(trained), trained.hold(bench))[1],
        lambda: trained.hold(bench),
        lambda: answers.hold(bench),
    )
    bench.release()
    for hold in held:
        before = jax.live_arrays()
        shapes = {leaf.shape for leaf in jax.tree.leaves(nnx.state(hold(), nnx.Param))}
        assert shapes <= {array.shape for array in new_arrays(before)}
        bench.release()
        left = [array.shape for array in new_arrays(before)]
        assert not shapes & set(left), left


def new_arrays(before: list[jax.Array]) -> list[jax.Array]:
    known = set(map(id, before))
    return [array for array in jax.live_arrays() if id(array) not in known]
