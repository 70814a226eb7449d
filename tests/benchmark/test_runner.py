"""The benchmark: what it counts, that it runs the real step, and what it says; never how long anything takes."""

import json
import types

import jax
import numpy as np
import pytest
from support import commands, paths, tiny_config

from selw2s_jax import errors
from selw2s_jax.benchmark import __main__ as benchmark_command
from selw2s_jax.benchmark import example_texts, loading, measure, peaks, report, runner, workloads, writing
from selw2s_jax.data import batches
from selw2s_jax.method import objectives, registry
from selw2s_jax.plan import estimate, planner, workload
from selw2s_jax.training import step

SMOKE = f"--config={paths.REPO / 'configs' / 'gpt2.py'}:smoke"
FIELDS = {
    "step_ms_p50",
    "step_ms_p90",
    "compile_s",
    "examples_per_s",
    "useful_tokens_per_s",
    "padded_tokens_per_s",
    "padding_efficiency",
    "mfu",
    "peak_gib",
    "host_wait_ms",
}


def make_config(**overrides):
    return tiny_config.make_config(
        **{"strong__model": "random-tiny-gpt2", "execution__score_tokens": 512, "execution__train_shapes": 1}
        | overrides
    )


def make_workloads(tmp_path, num_steps: int, **overrides) -> workloads.Workloads:
    """On synthetic examples."""
    config = planner.cells(make_config(**overrides))[0].config
    model = workload.find_model(config, "strong", tmp_path)
    return workloads.Workloads(config, model, example_texts.synthetic(config, model, 11), num_steps)


def test_counts_are_those_of_the_batches():
    lengths = np.random.default_rng(0).integers(1, 40, 37)
    tokens = [np.ones(length, np.int32) for length in lengths]
    data = batches.TrainBatches(
        {batches.TASK: batches.ExampleSet([""] * 37, tokens)}, {batches.TASK: 6}, num_steps=7, num_micro=2
    )
    total = measure.Counts(0, 0, 0, 0)
    for number in range(7):
        batch = data.batch_at(number)
        found = measure.count(batch)
        of_step = lengths[batch.index.reshape(-1)]
        assert found == (6, of_step.sum(), batch.tokens.size, (of_step**2).sum(), 0)
        total = total.plus(found)
    assert total.num_examples == 6 * 7
    assert total.padding_efficiency == data.padding_efficiency()


def test_counts_leave_out_padded_slots():
    tokens = [np.ones(length, np.int32) for length in (3, 5, 9)]
    found = [measure.count(batch) for batch, _ in batches.score_batches(tokens, batch_tokens=64)]
    assert sum(one.num_examples for one in found) == 3
    assert sum(one.num_tokens for one in found) == 17


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "overrides"),
    [
        ("selective", {"execution__train_shapes": 2}),
        ("finetune", {"training__trained": "lora", "training__micro_batch_size": 4}),
        ("finetune", {"strong__model": "random-tiny-gpt_neox"}),
    ],
)
def test_what_is_timed_is_the_real_step(method, overrides, tmp_path):
    """The parameters are, bit for bit, those of as many steps without the benchmark, from host or placed batches."""
    work = make_workloads(tmp_path, 4, **overrides).train(method)
    held = work.start()
    executables, compile_s = measure.compile_shapes(work, held)
    assert set(compile_s) == {work.feed.make(number).tokens.shape[1:] for number in range(4)}
    timed, seconds = measure.run_steps(work, executables, held, work.feed)
    assert seconds.shape == (3,) and (seconds > 0).all() and int(timed.step) == 4
    placed, _ = measure.run_steps(work, executables, work.start(), work.feed.on(work.program.mesh))

    plain = work.start()
    for number in range(4):
        batch = batches.device_batch(work.feed.make(number), work.program.mesh)
        plain, metrics, _ = work.program.function(plain, batch)
    assert np.isfinite(float(metrics["loss"]))
    for one, other, third in zip(*map(jax.tree.leaves, (timed, placed, plain)), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, third)


@pytest.mark.slow
@pytest.mark.ci
def test_the_program_is_that_of_a_run(tmp_path):
    """As a stage makes it, in its own words: the same text goes to the compiler."""
    made = make_workloads(tmp_path, 2)
    work = made.train("selective")
    held, batch = work.start(), work.feed.make(0)
    settings = made.settings.optimizer(made._model, made._programs._num_steps())
    graphdef, _, shardings = workloads.state.start(
        workloads.random_model(made._build(p_ik_head=True), work.program.mesh),
        settings,
        work.program.mesh,
    )
    objective = objectives.make_objective(made._config, registry.METHODS["selective"])
    plain = step.make_train_step(
        graphdef, step.classification(objective), settings, mesh=work.program.mesh, state_shardings=shardings
    )
    on_devices = batches.device_batch(batch, work.program.mesh)
    assert plain.lower(held, on_devices).as_text() == work.program.function.lower(held, on_devices).as_text()


@pytest.mark.slow
@pytest.mark.ci
def test_one_object_with_every_program(capsys, tmp_path):
    options = runner.Options(runner.PROGRAMS, methods=("selective", "supervised"), num_steps=3, warmup=1)
    file = tmp_path / "made" / "benchmark.json"
    runner.run(make_config(), options, as_json=True, output=str(file))
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(file.read_text())
    assert found["device"] == jax.devices()[0].device_kind and found["num_devices"] == jax.device_count()
    assert found["mesh"] and found["peak_flops"] > 0 and "model FLOPs" in found["mfu_formula"]
    named = [(row["program"], row["method"]) for row in found["rows"]]
    assert named == [
        ("train", "selective"),
        ("train", "supervised"),
        ("score", None),
        ("answer", None),
        ("write", None),
        ("load", None),
    ]
    for row in found["rows"][:-2]:
        assert row.keys() >= FIELDS and row["model"] == "random-tiny-gpt2" and row["axes"] == {}
        assert row["data"] == "texts of sciq" and row["num_steps"] == 3
        assert all(row[field] > 0 for field in FIELDS - {"host_wait_ms", "peak_gib"})
        assert row["padding_efficiency"] == row["useful_tokens"] / row["padded_tokens"]
        assert row["padded_tokens"] == sum(
            shape["rows"] * shape["tokens"] * shape["num_steps"] for shape in row["shapes"]
        )
        rate = row["num_examples"] / row["seconds"]
        assert row["examples_per_s"] == pytest.approx(rate, rel=1e-4)
        utilisation = row["model_flops"] / row["seconds"] / row["peak_flops"]
        assert row["mfu"] == pytest.approx(utilisation, rel=1e-4)
        assert row["compile_s"] == pytest.approx(sum(shape["compile_s"] for shape in row["shapes"]), rel=1e-3)
    assert [row["num_examples"] for row in found["rows"][:2]] == [3 * 16, 3 * 8]
    written = found["rows"][-2]
    assert written["tokens"] == writing.NEW_TOKENS * written["num_prompts"] and written["prompt_tokens"] > 0
    rate = written["tokens"] / written["step_ms_p50"] * 1e3
    assert written["tokens_per_s"] == pytest.approx(rate, rel=1e-3)
    assert found["rows"][-1]["gb_per_s"] > 0


@pytest.mark.slow
def test_rows_of_a_sweep_and_what_does_not_fit(capsys, monkeypatch):
    config = make_config()
    config.sweep.settings = ("training.batch_size=4,8", "execution.remat=full,none")
    options = runner.Options(methods=("finetune",), num_steps=2, warmup=1, mean_length=9, peak_flops=1e12)
    real, calls = measure.measure, []

    def measure_but_one(work, **arguments):
        calls.append(work)
        if len(calls) == 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return real(work, **arguments)

    monkeypatch.setattr(measure, "measure", measure_but_one)
    found = runner.run(config, options)
    table = capsys.readouterr().out
    axes = [(row["axes"]["training.batch_size"], row["axes"]["execution.remat"]) for row in found["rows"]]
    assert axes == [(4, "full"), (4, "none"), (8, "full"), (8, "none")]
    assert found["rows"][1]["error"] == report.OUT_OF_MEMORY and "mfu" not in found["rows"][1]
    assert [row["num_examples"] for row in found["rows"] if "mfu" in row] == [8, 16, 16]
    assert "execution.remat=none" in table and "out of memory" in table and "--peak_tflops" in table

    def always(work, **arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(measure, "measure", always)
    with pytest.raises(errors.UserError, match="out of device memory"):
        runner.run(make_config(), options)


def test_flops_of_utilisation_are_those_of_the_formula(tmp_path):
    made = make_workloads(tmp_path, 2, training__micro_batch_size=4)
    config = made._model.config
    counts = measure.Counts(16, 100, 130, 1100)
    found = measure.model_flops(made.train("finetune"), counts)
    sizes = {"num_tokens": 100, "num_examples": 16, "num_read": 16}
    assert found == estimate.step_flops(config, mean_length=11, **sizes).model
    # Of the last layer keys and values of all tokens, a sixth of its weights, and the rest of those that are read.
    in_layers = 100 * (config.num_layers - 1) + 16
    weights = config.embed_dim**2 * (12 * in_layers + 2 * (100 - 16))
    heads = 3 * 2 * 16 * 2 * 2 * config.embed_dim
    assert found == 6 * weights + 12 * 11 * config.embed_dim * in_layers + heads
    answer = made.answer()
    assert answer.past_length >= 4 * 10  # the shots are read once
    forward = estimate.step_flops(config, mean_length=11 + answer.past_length, backward=False, **sizes)
    assert measure.model_flops(answer, counts) == forward.model


@pytest.mark.slow
def test_traces_are_of_the_steps_asked_for(capsys, tmp_path):
    folder = tmp_path / "traces"
    options = runner.Options(
        methods=("finetune",),
        num_steps=4,
        warmup=1,
        mean_length=9,
        profile=measure.Profile(1, 3, str(folder)),
    )
    runner.run(make_config(), options)
    assert "trace of steps 1 to 2" in capsys.readouterr().out
    assert list((folder / "train-finetune").rglob("*.xplane.pb"))


@pytest.mark.parametrize("mean", [5, 23, 300])
def test_synthetic_lengths_have_their_mean(mean):
    drawn = example_texts.draw_lengths(np.random.default_rng(0), mean, 1024)
    assert drawn.mean() == pytest.approx(mean, rel=0.06) and drawn.min() >= 1 and drawn.max() <= 1024
    assert len(set(drawn)) > 5


def test_peaks_are_the_vendors_or_measured(monkeypatch):
    devices = np.array([types.SimpleNamespace(device_kind="NVIDIA H200", platform="gpu")] * 3)
    assert peaks.find(devices, "bfloat16").flops == 3 * 989.4e12
    monkeypatch.setattr(peaks, "measure", lambda *given: 5.0)
    assert peaks.find(devices, "float32") == (5.0, peaks.find(devices, "float32").source)
    assert "measured" in peaks.find(devices, "float32").source
    monkeypatch.undo()
    assert peaks.measure(np.array(jax.devices()), "float32", 64) > 0


def test_models_without_weights_are_not_loaded(tmp_path):
    config = planner.cells(make_config(strong__model="gpt2"))[0].config
    assert "gpt2" in loading.why_not(workload.find_model(config, "strong", tmp_path))


@pytest.mark.parametrize(
    ("options", "overrides", "part"),
    [
        ({"programs": ("trian",)}, {}, "choose from train, score, answer, write, load"),
        ({"methods": ("selectiv",)}, {}, "choose from supervised"),
        ({"methods": ("finetune", "finetune")}, {}, "must name each once"),
        ({"profile": measure.Profile(3, 21, "")}, {}, "0 <= FIRST < LAST <= 20"),
        ({"profile": measure.Profile(3, 3, "")}, {}, "0 <= FIRST < LAST <= 20"),
        ({"mean_length": 2000}, {}, "--lengths=2000 is more than the 1024 tokens"),
        ({"mean_length": 20, "data": "real"}, {}, "leave it out with --data=real"),
        ({"data": "real"}, {"strong__model": "gpt2"}, "--data=real: the tokenizer of gpt2"),
        ({"data": "real"}, {"data__source": "/nowhere"}, "--data=real: "),
        (
            {"data": "synthetic"},
            {"execution__attention": "cudnn", "precision__compute_dtype": "bfloat16"},
            "cudnn needs a GPU",
        ),
        ({"methods": ("selective",)}, {"p_ik__stage": "frozen"}, "set p_ik.mask=frozen_scores"),
        ({"methods": ("finetune",), "mean_length": 9}, {"task": "gsm8k"}, "give --method=p_ik_only"),
        ({}, {"mesh__shape": (1, 3, 1)}, "does not fit"),
    ],
)
def test_mistakes_are_named(options, overrides, part):
    with pytest.raises(errors.UserError) as error:
        runner.run(make_config(**overrides), runner.Options(**options))
    assert part in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--lengths=x"], "--lengths=x must be a number of tokens"),
        (["--profile=5"], "--profile=5 must be FIRST:LAST"),
        (["--warmup=0"], "warmup"),
        (["--programs=tests"], "choose from train"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(arguments, part, tmp_path):
    ended = commands.call(benchmark_command.main, SMOKE, *arguments, cwd=tmp_path)
    commands.assert_refused(ended, part)


@pytest.mark.slow
def test_the_command_prints_one_json_object(tmp_path):
    ended = commands.call(
        benchmark_command.main,
        SMOKE,
        "--json",
        "--num_steps=2",
        "--warmup=1",
        "--method=finetune",
        "--config.sweep.settings='training.batch_size=4,8'",
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(json.loads(ended.stdout)["rows"]) == 2 and "examples: " in ended.stderr
