"""Plans without hardware: targets, collectives, meshes; and on CPU devices the command, beside real runs."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest
from support import commands, paths, plan_worker, plans, small_run, tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax import errors, sharding
from selw2s_jax.experiments import selective
from selw2s_jax.models import registry
from selw2s_jax.plan import __main__ as plan_command
from selw2s_jax.plan import chips, hlo, jobs, planner, programs, search, targets, total, workload
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.stages import train
from selw2s_jax.training import layouts

QWEN = f"--config={paths.REPO / 'configs' / 'qwen.py'}"
SMOKE = f"{QWEN}:smoke"

# Where a loop turns five times, once with the number that XLA knows and once without.
MODULE = """
HloModule test, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%all-reduce-scatter.3 (input: bf16[8,6]) -> bf16[2,6] {
  %input = bf16[8,6]{1,0} parameter(0)
  %all-reduce.2 = bf16[8,6]{1,0} all-reduce(%input), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  ROOT %slice = bf16[2,6]{1,0} slice(%all-reduce.2), slice={[0:2], [0:6]}
}

%beside.1 (input: f32[4,6]) -> f32[8,6] {
  %input.1 = f32[4,6]{1,0} parameter(0)
  ROOT %all-gather.1 = f32[8,6]{1,0} all-gather(%input.1), channel_id=7, replica_groups=[4,2]<=[8], dimensions={0}
}

%beside.2 (input: f32[4,6]) -> f32[8,6] {
  %input.2 = f32[4,6]{1,0} parameter(0)
  ROOT %all-gather.2 = f32[8,6]{1,0} all-gather(%input.2), channel_id=7, replica_groups=[4,2]<=[8], dimensions={0}
}

%body (carry: (s32[], f32[4,6])) -> (s32[], f32[4,6]) {
  %carry = (s32[], f32[4,6]{1,0:T(8,128)}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %x = f32[4,6]{1,0:T(8,128)} get-tuple-element(%carry), index=1
  %all-gather-start = (f32[4,6]{1,0}, f32[8,6]{1,0}) all-gather-start(%x), replica_groups=[4,2]<=[8], dimensions={0}
  %all-gather-done = f32[8,6]{1,0} all-gather-done(%all-gather-start)
  %half = bf16[8,6]{1,0} convert(%all-gather-done)
  %fusion.1 = bf16[2,6]{1,0} fusion(%half), kind=kCustom, calls=%all-reduce-scatter.3
  %fusion.2 = f32[8,6]{1,0} fusion(%x), kind=kCustom, calls=%beside.1
  %fusion.3 = f32[8,6]{1,0} fusion(%x), kind=kCustom, calls=%beside.2
  ROOT %next = (s32[], f32[4,6]) tuple(%i, %x)
}

%condition (carry: (s32[], f32[4,6])) -> pred[] {
  %carry.1 = (s32[], f32[4,6]{1,0}) parameter(0)
  %limit = s32[]{:T(128)} constant(5)
  %i.1 = s32[] get-tuple-element(%carry.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%i.1, %limit), direction=LT
}

ENTRY %main (p: f32[4,6]) -> f32[4,6] {
  %p = f32[4,6]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[4,6]) tuple(%zero, %p)
  %loop = (s32[], f32[4,6]{1,0}) while(%start), condition=%condition, body=%body BACKEND
  %again = (s32[], f32[4,6]{1,0}) while(%loop), condition=%condition, body=%body
  %y = f32[4,6]{1,0} get-tuple-element(%again), index=1
  %pair = (f32[4,6]{1,0}, f32[4,6]{1,0}) all-reduce(%y, %p), replica_groups=mesh['a'=2,'b'=4] {'a','b'}, to_apply=%add
  %z = f32[4,6]{1,0} get-tuple-element(%pair), index=0
  ROOT %permuted = f32[4,6]{1,0} collective-permute(%z), source_target_pairs={{0,1},{1,0}}
}
"""


@pytest.mark.parametrize("known", ["", ', backend_config={"known_trip_count":{"n":"5"}}'])
def test_collectives_are_counted_once_for_each_turn(known):
    found = {one.kind: one for one in hlo.collectives(MODULE.replace(" BACKEND", known), 8)}
    array = 4 * 6 * 4
    # One by itself, and one that two fusions run beside.
    assert found["all-gather"] == ("all-gather", 20, 20 * 2 * array, 20 * array)
    assert found["reduce-scatter"] == ("reduce-scatter", 10, 10 * 96, 10 * 96 * 3 / 4)
    assert found["all-reduce"] == ("all-reduce", 1, 2 * array, 2 * 2 * array * 7 / 8)
    assert found["collective-permute"] == ("collective-permute", 1, array, array)


@pytest.mark.parametrize(
    ("given", "num_devices"),
    [("cpu:8", 8), ("CPU:1", 1)],
)
def test_targets_that_need_nothing(given, num_devices):
    target = targets.parse(given)
    assert target.num_devices == num_devices
    assert target.usable_bytes * num_devices <= chips.CHIPS["cpu"].usable_bytes


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (None, ["--target is missing", "a100-80gb:8", "tpu-v5p:2x2x1", "cpu:8"]),
        ("a100:8", ["not known", "a100-40gb or a100-80gb"]),
        ("v5p:2x2x1", ["not known", "did you mean tpu-v5p"]),
        ("tpu-v9:2x2", ["not known", "did you mean tpu-v"]),
        ("gpu", ["not known"]),
        ("h100", ["a number of devices"]),
        ("h100:0", ["a number of devices"]),
        ("h100:2x2", ["h100:4"]),
        ("a100-80gb:12", ["machines have 8"]),
        ("tpu-v5p:", ["2x2x1"]),
        ("tpu-v5p:2x3x1", ["does not exist", "2x2x2"]),
        ("tpu-v5e:2x2x1", ["does not exist", "2 dimensions"]),
        ("cpu:100000", ["at most 512"]),
        ("h100:8,memory=94,speed=3", ["'speed=3' is not known", "memory, tflops, bandwidth, link"]),
        ("h100:8,memory=0", ["'memory=0' needs a number above 0"]),
        ("h100:8,tflops=nan", ["needs a number above 0"]),
        ("cpu:8,memory=94", ["cpu is as it is", "of GPUs"]),
    ],
)
def test_targets_that_do_not_exist(given, parts):
    with pytest.raises(errors.UserError) as error:
        targets.parse(given)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(("given", "extra"), [("tpu-v5e:4x4", "plan-tpu"), ("h100:8", "plan-gpu")])
def test_a_compiler_that_is_not_installed_is_named(given, extra, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match=rf"pip install 'selw2s-jax\[{extra}\]'"):
        targets.parse(given)


def test_a_card_like_a_listed_one_has_the_numbers_given(monkeypatch):
    monkeypatch.setattr(targets, "_is_installed", lambda name: True)
    listed, own = targets.parse("h100:8"), targets.parse("h100:8,memory=94,tflops=835,link=300")
    assert own.usable_bytes == int(0.9 * 94 * chips.GIB) and own.num_devices == 8
    assert (own.chip.bf16_flops, own.interconnect_bytes_per_s) == (835e12, 300e9)
    assert own.chip.hbm_bytes_per_s == listed.chip.hbm_bytes_per_s
    described = targets._describe_gpu(own.chip)
    assert f"device_memory_size: {94 * chips.GIB}" in described and "core_count: 132" in described


def test_every_gpu_can_be_described_to_the_compiler():
    assert set(targets._GPUS) == {chip.name for chip in chips.CHIPS.values() if chip.kind == "gpu"}


def test_a_chip_of_two_devices():
    chip = chips.CHIPS["tpu-v7x"]
    assert targets.Target("tpu-v7x:2x2x1", chip, (2, 2, 1)).num_devices == 8


def test_the_hours_of_a_run_are_the_calls_of_all_its_stages(tmp_path):
    """Steps and texts of every stage of two seeds, by the peaks of a chip that needs no compiler here."""
    config = planner.cells(tiny_config.make_config(seeds=(0, 1), methods=("finetune",)))[0].config
    made = programs.Programs(config, jax.devices())
    work = workload.find(config, tmp_path, made.train_batches)
    works = total.of_stages(work.ordered, jobs.largest_method(config))
    trained = [stage for stage in work.ordered if isinstance(stage, train.Train)]
    steps = sum(sum(one.counts) for one in works if one.program == "train")
    assert steps == sum(stage.num_steps for stage in trained) > 0
    assert sum(len(one.counts) for one in works if one.program == "train") == len(trained)
    chip = dataclasses.replace(chips.CHIPS["h100"], kind="cpu")
    target = targets.Target("h100:1", chip, (1,))
    found = total.estimated(config, works[:2], work.models, workload.Sizes(64), (), made, target)
    assert found.hours * 3600 == pytest.approx(sum(row.calls * row.call_s for row in found.rows))
    assert found.device_hours == found.hours > 0
    # Of the packed batches, which are not longer than all of 64 tokens each.
    counted = total.as_counted(works, work.trainings)
    assert all(0 < one.share <= 1 for one in counted)
    assert all((one.sizes.shape is not None) == (one.program == "train") for one in counted)
    assert all(10 < one.sizes.length < 200 for one in counted)
    cpu = targets.parse("cpu:1")
    assert total.estimated(config, works[:1], work.models, workload.Sizes(64), (), made, cpu) is None


@pytest.mark.parametrize("name", ["gpt2", "qwen-14b", "llama-3-8b"])
def test_mesh_shapes_are_those_that_are_accepted(name):
    """On 1 device here, the rule of `sharding.check_divisible` for 8."""
    config = registry.MODELS[name].config
    shapes = layouts.mesh_shapes(config, 8)
    assert len(set(shapes)) == len(shapes) > 0
    for data in (1, 2, 4, 8):
        for tensor in (1, 2, 4, 8):
            if data * tensor <= 8:
                shape = (data, 8 // (data * tensor), tensor)
                mesh = jax.sharding.AbstractMesh(shape, sharding.MESH_AXES)
                assert (shape in shapes) == (not sharding._indivisible(mesh, config))


def test_remedies_that_change_no_result_come_first():
    config = config_lib.default_config()
    config.execution.remat = "none"
    tried = list(search._remedies(config, 8, registry.MODELS["qwen-14b"].config))
    assert tried[0] == {"execution.remat": "full"}
    assert {"execution.remat": "full", "training.micro_batch_size": 16} in tried
    assert all("execution.remat" in overrides for overrides in tried)
    changes = [bool({"precision.moment_dtype", "training.trained"} & overrides.keys()) for overrides in tried]
    assert changes == sorted(changes) and any(changes)
    assert len(tried) == len({str(overrides) for overrides in tried})
    changed = search.with_overrides(config, tried[0])
    assert changed.execution.remat == "full" and config.execution.remat == "none"


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("qwen-72b", "qwen-72b"),
        ("llama-3-8b", "llama-3-8b"),
        ("pythia-12b", "pythia-12b"),
        ("Qwen/Qwen2.5-32B", "qwen2.5-32b"),
    ],
)
def test_sizes_of_shipped_models_need_no_files(tmp_path, monkeypatch, name, entry):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    config = config_lib.default_config()
    config.strong.model = name
    model = workload.find_model(config, "strong", tmp_path)
    assert model.config == registry.MODELS[entry].config and model.tokenizer is None
    assert model.max_length == config.data.max_length
    config.strong.model = "org/unknown"
    with pytest.raises(errors.UserError, match="org/unknown"):
        workload.find_model(config, "strong", tmp_path)


_SEVERAL = {
    "weak__model": None,
    "weak__members": ("random-tiny-gpt2", "random-tiny-gpt2@arc", "random-tiny-gpt2"),
    "weak__rows": "disjoint",
    "analysis__kernels": True,
    "evaluation__every_steps": 2,
    "evaluation__held_out": 0.2,
    "methods": ("raven", "two_stage"),
}


@pytest.mark.parametrize("changes", [{"methods": ("selective", "finetune"), "p_ik__num_test": 7}, _SEVERAL])
def test_without_data_the_stages_are_those_of_the_run(tmp_path, changes):
    """By label alone."""
    config = planner.cells(tiny_config.make_config(**changes))[0].config
    made = programs.Programs(config, jax.devices())
    found = workload.find(config, tmp_path, made.train_batches)
    targets = workload._targets(selective.Experiment(config, workload._without_data(config, found.models)))
    outline = workload._outline(targets, has_data=False)
    assert [stage.label for stage in outline] == [stage.label for stage in found.stages]
    assert all(stage.is_done is None and not stage.detail for stage in outline)


def test_without_data_steps_are_those_of_the_published_sizes(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = planner.cells(tiny_config.make_config(seeds=(0, 1)))[0].config
    assert workload._published(config) is None  # of generated questions
    config.data.source, config.data.num_train, config.p_ik.num_train = "hub", 20_000, 500
    config.data.num_test, config.training.batch_size, config.training.epochs = None, 32, 2.0
    sizes = workload._published(config)
    assert sizes == {"half": 5839, "test": 1000, "p_ik": 500, "p_ik_test": config.p_ik.num_test}
    inputs = workload._without_data(config, workload.find_models(config, tmp_path), sizes)
    stages = stage_lib.in_order(
        workload._targets(selective.Experiment(config, inputs)), identity=lambda stage: stage.label
    )
    works = {(one.program, one.slot, one.method): one for one in total.of_stages(stages, "selective")}
    assert works["train", "weak", "supervised"].counts == (2 * 5839 // 32,) * 2
    assert works["train", "strong", "selective"].counts == (2 * 5839 // 32,) * 2
    assert sorted(works["score", "weak", ""].counts) == [1000, 1000, 5839, 5839]
    assert sorted(works["answer", "strong", ""].counts) == [500, 500, 5839, 5839]
    config.weak.members = ("gpt2", "gpt2")
    assert workload._published(config) is None


@pytest.mark.slow
@pytest.mark.ci
def test_a_mesh_that_does_not_fit_the_target_is_one_line_of_a_process(tmp_path):
    arguments = (f"--config={paths.CONFIGS}/qwen.py", "--target=cpu:8", "--config.mesh.shape=(1,3,1)")
    ended = commands.process("plan", *arguments, cwd=tmp_path)
    commands.assert_refused(ended._replace(stdout=""), "mesh.shape")


def worker(what: str, num_devices: int) -> dict:
    """Runs plan_worker.py on so many CPU devices."""
    flags = f"--xla_force_host_platform_device_count={num_devices} --xla_backend_optimization_level=0"
    ended = subprocess.run(
        [sys.executable, plan_worker.__file__, what],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": paths.PYTHONPATH},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.slow
def test_state_bytes_are_those_of_the_real_state():
    """Fully trained, with adapters, a linear probe; narrow moments, factored moments; several meshes of 8 devices."""
    for one in worker("state", 8):
        assert one["planned"] == one["held"]
        assert one["same_batch"]


@pytest.mark.slow
def test_the_peak_is_what_the_process_takes():
    found = worker("memory", 1)
    assert 0.75 < found["rose"] / found["planned"] < 1.25, found


@pytest.mark.slow
def test_the_command_prints_one_json_object(tmp_path):
    arguments = (
        SMOKE,
        "--target=cpu:8",
        "--steps=all",
        "--lengths=64",
        "--json",
        "--config.mesh.shape=(2,4,1)",
    )
    ended = subprocess.run(
        [sys.executable, "-m", "selw2s_jax.plan", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path / "hf")},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["target"] == "cpu:8" and found["mesh"] == {"data": 2, "fsdp": 4, "tensor": 1}
    names = {(step["name"], step["role"]) for step in found["steps"]}
    assert names == {
        ("answer", "strong"),
        ("train supervised", "weak"),
        ("score", "weak"),
        ("train supervised", "strong"),
        ("score", "strong"),
        ("train selective", "strong"),
    }
    for one in found["steps"]:
        assert one["peak_gib"] == pytest.approx(one["state_gib"] + one["temporaries_gib"], abs=2e-3)
        assert one["verdict"] == "fits" and one["estimate"] is None and one["flops"]["total"] > 0
    student = [step for step in found["steps"] if step["name"] == "train selective"]
    # Rows of one example: examples of one length fill them as well as longer rows, with less attention.
    assert [(one["length"], one["num_rows"], one["row_length"]) for one in student] == [(64, 64, 64)]
    assert {one["kind"] for one in student[0]["collectives"]} >= {"all-gather", "all-reduce"}
    assert "11 stages" in ended.stderr and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_step_that_does_not_fit_is_told_what_would(tmp_path):
    """In a little less memory than it takes; and in less than any change would take."""
    config = tiny_config.make_config(execution__remat="none", mesh__shape=(1, 1, 1))
    config.training.micro_batch_size = config.training.batch_size
    config = planner.cells(config)[0].config
    target = targets.parse("cpu:1")

    def plan(usable_bytes: float) -> tuple[dict, list[str]]:
        small = dataclasses.replace(target.chip, usable_bytes=int(usable_bytes))
        said = []
        made = planner.Planner(
            dataclasses.replace(target, chip=small), planner.Options(lengths=(1024,)), said.append
        )
        made.plan(config, tmp_path)
        return made.to_json(), said

    peak = plan(2**40)[0]["steps"][0]["peak_gib"] * 2**30
    found, said = plan(0.95 * peak)
    assert found["steps"][0]["verdict"] == "does not fit"
    (remedy,) = found["remedies"]
    assert remedy["verdict"] in ("fits", "tight") and remedy["peak_gib"] < found["steps"][0]["peak_gib"]
    assert (
        remedy["config"]["execution.remat"] == "full"
    )  # and where its last layer is half of it, micro-batches
    assert any("--config.execution.remat=full" in line for line in said)
    found, said = plan(1000)
    assert found["remedies"][0]["fewest_devices"] > 1
    assert any("nothing that was tried" in line for line in said)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([SMOKE], "--target is missing"),
        ([SMOKE, "--target=cpu:1", "--lengths=x"], "--lengths=x must be"),
        ([SMOKE, "--target=cpu:1", "--lengths=2048"], "more than the 1024 tokens"),
        ([SMOKE, "--target=cpu:1", "--config.mesh.shape=(1,3,1)"], "does not fit 1 device(s)"),
        ([SMOKE, "--target=cpu:1", "--config.mesh.num_groups=3"], "does not divide the 1 devices"),
        ([SMOKE, "--target=cpu:1", "--config.execution.attention=cudnn"], "config"),
    ],
)
def test_mistakes_are_one_line(arguments, part, tmp_path):
    ended = commands.call(plan_command.main, *arguments, cwd=tmp_path)
    commands.assert_refused(ended._replace(stdout=""), part)  # it may have said what the target is


@pytest.mark.slow
def test_token_counts_and_stages_are_those_of_a_run(tmp_path_factory):
    plans.assert_counted(small_run.make_config(), small_run.workdir(tmp_path_factory.getbasetemp()))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sciq", "boolq"])
def test_token_counts_of_real_data_need_no_weights(task, real_data, tmp_path):
    """Of the batches that a run of these tasks makes, from its texts and tokenizers alone."""
    config = config_lib.default_config()
    config.task, config.data.source, config.seeds = task, str(real_data), (0,)
    config.weak.model, config.strong.model = "gpt2", "qwen-14b"
    config.weak.tokenizer = str(real_data / "tokenizers" / "gpt2")
    config.strong.tokenizer = str(real_data / "tokenizers" / "qwen1")
    config = planner.cells(config)[0].config
    made = programs.Programs(config, jax.devices())
    found = workload.find(config, tmp_path, made.train_batches)
    assert found.missing == ("the weights: which stages are done is not known",)
    assert all(stage.is_done is None for stage in found.stages) and len(found.stages) == 11
    joint = found.trainings[-1]
    assert set(joint.num_examples) == {"task", "p_ik"} and 0.5 < joint.num_tokens / joint.num_slots < 1
    weak = next(stage for stage in found.stages if stage.label == "weak, seed 0")
    assert (
        weak.detail
        == f"{found.trainings[0].num_examples['task']} examples, {found.trainings[0].num_steps} steps"
    )


def compile_for(name: str) -> dict:
    """A plan of Qwen-14B for an accelerator that is not here, with one length."""
    ended = subprocess.run(
        [sys.executable, "-m", "selw2s_jax.plan", QWEN, f"--target={name}", "--lengths=128", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)["steps"][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a100-80gb:8", "h200:8", "tpu-v6e:4x4"])
def test_qwen_14b_fits_accelerators_that_are_not_here(name):
    try:
        targets.parse(name)
    except errors.UserError as error:
        pytest.skip(str(error))
    found = compile_for(name)
    assert found["verdict"] == "fits" and found["estimate"]["total_s"] > 0
    assert found["state_gib"] * found["mesh"]["fsdp"] == pytest.approx(149.7, abs=0.5)
    gathered = next(one for one in found["collectives"] if one["kind"] == "all-gather")
    assert gathered["count"] >= 400  # 5 weights of 40 layers, forward and again
