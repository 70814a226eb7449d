"""The train step: micro-batched = full batch, packed = padded, ours = torch's over 16 steps."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import make_parity, make_training_run
from flax import nnx
from safetensors.numpy import load_file
from support import families, marks, training_parts

from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader, random_checkpoint
from selw2s_jax.inference import classify
from selw2s_jax.method import registry
from selw2s_jax.models import heads
from selw2s_jax.training import loop, metrics_log, state, step


def method_params() -> list:
    """Every method, but those that differ by their teachers alone; most are slow together."""
    of_some = {"finetune": marks.IN_CI, "selective": (), "confidence": marks.IN_CI}
    names = sorted(name for name, method in registry.METHODS.items() if method.teacher == "weak")
    return [pytest.param("qwen", name, 3, marks=of_some.get(name, pytest.mark.slow)) for name in names]


@pytest.mark.parametrize(
    ("family", "name", "num_micro"), [*method_params(), marks.in_ci("gpt2", "selective", 12)]
)
def test_micro_batches_give_the_full_batch_gradient(fixtures, family, name, num_micro):
    config = make_parity.CONFIGS[family]
    model = training_parts.make_classifier(fixtures, family, p_ik_head=registry.METHODS[name].uses_p_ik)
    computation = training_parts.make_computation(name)
    full = training_parts.make_data(config, name).batch_at(2)
    expected, metrics, trace = training_parts.gradients(model, full, computation)
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(expected))
    if registry.METHODS[name].label_rule == "selective":
        assert 0 < metrics["ik_rate"] < 1, "the test should see both kinds of rows"
    micro = training_parts.make_data(config, name, num_micro=num_micro).batch_at(2)
    assert micro.tokens.shape[0] == num_micro
    actual, micro_metrics, micro_trace = training_parts.gradients(model, micro, computation)
    training_parts.assert_trees_close(actual, expected, 1e-5)
    for key, value in metrics.items():
        assert micro_metrics[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key
    by_slot = dict(zip(_names(full), np.asarray(trace.target), strict=True))
    by_slot_micro = dict(zip(_names(micro), np.asarray(micro_trace.target), strict=True))
    assert by_slot.keys() == by_slot_micro.keys()
    for key, value in by_slot.items():
        assert by_slot_micro[key] == pytest.approx(value, abs=1e-5)


def _names(batch):
    return list(zip(batch.kind.reshape(-1).tolist(), batch.index.reshape(-1).tolist(), strict=True))


@pytest.mark.parametrize("family", [*map(marks.in_ci, ("gpt2", "qwen"))])
def test_packed_rows_give_the_gradient_of_one_example_per_row(fixtures, family):
    config = make_parity.CONFIGS[family]
    model = training_parts.make_classifier(fixtures, family, p_ik_head=True)
    computation = training_parts.make_computation("selective")
    packed = training_parts.make_data(config, "selective").batch_at(1)
    num_slots = packed.row.shape[1]
    assert packed.tokens.shape[1] < num_slots
    padded = packed._replace(
        **{
            name: np.zeros((1, num_slots, config.max_seq_len), np.int32)
            for name in ("tokens", "positions", "segment_ids")
        },
        row=np.arange(num_slots, dtype=np.int32)[None],
        last=np.zeros((1, num_slots), np.int32),
    )
    for slot in range(num_slots):
        row, last = packed.row[0, slot], packed.last[0, slot]
        length = packed.positions[0, row, last] + 1
        padded.tokens[0, slot, :length] = packed.tokens[0, row, last - length + 1 : last + 1]
        padded.positions[0, slot, :length] = np.arange(length)
        padded.segment_ids[0, slot, :length] = 1
        padded.last[0, slot] = length - 1
    padded = padded._replace(reads=padded.last[:, :, None])
    actual, metrics, _ = training_parts.gradients(model, packed, computation)
    expected, padded_metrics, _ = training_parts.gradients(model, padded, computation)
    training_parts.assert_trees_close(actual, expected, 1e-5)
    assert metrics == pytest.approx(padded_metrics, rel=1e-5)


def test_padded_slots_change_nothing(fixtures):
    config = make_parity.QWEN_CONFIG
    model = training_parts.make_classifier(fixtures, "qwen", p_ik_head=True)
    computation = training_parts.make_computation("selective")
    batch = training_parts.make_data(config, "selective").batch_at(0)
    extended = batch._replace(
        **{
            name: jax.tree.map(lambda x: np.concatenate([x, x[:, :5] * 0], axis=1), value)
            for name, value in batch._asdict().items()
            if name not in ("tokens", "positions", "segment_ids")
        }
    )
    for column in extended.columns.values():
        column[:, -5:] = np.nan
    actual, metrics, _ = training_parts.gradients(model, extended, computation)
    expected, plain_metrics, _ = training_parts.gradients(model, batch, computation)
    training_parts.assert_trees_close(actual, expected, 1e-6)
    assert metrics == pytest.approx(plain_metrics, rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "example_weights", "expected"),
    [
        ([1, 1, 0, 1], [0.25, 0.5, 9, 0], (0.25 * 2 + 0.5 * 3) / 3),  # their sum is below 1
        ([1, 1, 0, 1], [1, 1, np.nan, 1], (2 + 3 + 5) / 3),
        ([0.25, 0.5, 0, 0], [1, 1, 1, 1], (0.25 * 2 + 0.5 * 3) / 0.75),
        ([0, 0, 0, 0], [1, 1, np.nan, 1], 0.0),
        ([1, 1, 0, 1], [0, 0, 0, 0], 0.0),
    ],
)
def test_the_mean_counts_examples_and_padding_says_nothing(weights, example_weights, expected):
    weights, example_weights = jnp.asarray(weights, jnp.float32), jnp.asarray(example_weights, jnp.float32)
    mean = lambda scale: step.weighted_mean(scale * jnp.array([2, 3, np.nan, 5]), weights, example_weights)  # noqa: E731
    assert float(mean(1.0)) == pytest.approx(expected)
    slopes = jax.grad(step.weighted_mean)(jnp.array([2, 3, np.nan, 5.0]), weights, example_weights)
    assert np.isfinite(slopes).all() and slopes[2] == 0


@pytest.mark.parametrize("name", ["finetune", "mtl", "p_ik_only"])
def test_a_weight_is_as_if_the_example_were_there_so_often(name):
    """Up to the number that is divided by, which is that of examples."""
    rng, loss = np.random.default_rng(2), training_parts.make_computation(name).loss
    kind = np.array([batches.TASK, batches.P_IK] * 6)[:11]
    times = np.array([2, 0, 1, 3, 1, 1, 4, 2, 1, 0, 3])
    logits, p_ik_logits = rng.standard_normal((2, 11, 2)).astype(np.float32)
    weak, ik_target = rng.dirichlet([1, 1], 11).astype(np.float32), rng.random(11, np.float32)

    def losses_of(rows, example_weight):
        columns = {"weak_probs": weak[rows], "ik_target": ik_target[rows], "example_weight": example_weight}
        batch = batches.Batch(*[None] * 6, kind[rows], np.ones(len(rows), np.float32), columns)
        embeddings = jnp.zeros((len(rows), 3))
        outputs = heads.Outputs(jnp.asarray(logits[rows]), jnp.asarray(p_ik_logits[rows]), embeddings)
        return loss(outputs, batch, jnp.float32(0))[1][0]

    weighed = losses_of(np.arange(11), times.astype(np.float32))
    rows = np.repeat(np.arange(11), times)
    repeated = losses_of(rows, np.ones(len(rows), np.float32))
    for key, of_kind in (("loss_task", batches.TASK), ("loss_ik", batches.P_IK)):
        count, times_count = (kind == of_kind).sum(), times[kind == of_kind].sum()
        assert float(weighed[key]) * count == pytest.approx(float(repeated[key]) * times_count, rel=1e-5)
        assert (weighed[key] > 0) == (name != "p_ik_only" or key == "loss_ik")


def train_fixture(fixtures, family: str, tmp_path, **options):
    """`train_run` from a committed checkpoint."""
    seed = list(make_parity.CONFIGS).index(family)
    return train_run(fixtures / f"parity_{family}", seed, tmp_path, **options)


def train_run(folder, seed: int, tmp_path, *, num_micro: int = 1):
    """16 steps of `finetune` on generated examples: losses and final class logits."""
    config = loader.read_model_config(folder)
    tokens, soft_labels = make_training_run.make_examples(config, seed)
    ids = [f"toy/{i}" for i in range(len(tokens))]
    num_steps, rate = make_training_run.NUM_STEPS, make_training_run.LEARNING_RATE
    data = batches.TrainBatches(
        {batches.TASK: batches.ExampleSet(ids, tokens, {"weak_probs": soft_labels})},
        {batches.TASK: make_training_run.BATCH_SIZE},
        num_steps=num_steps,
        num_micro=num_micro,
        seed=make_training_run.ORDER_SEED,
    )
    mesh = sharding.single_device_mesh()
    options = {"param_dtype": "float32", "compute_dtype": "float32"}
    backbone = loader.load_decoder(folder, lm_head=False, mesh=mesh, **options)
    settings = state.OptimizerSettings(rate, num_steps)
    graphdef, start, shardings = state.start(heads.Classifier(backbone, p_ik_head=False), settings, mesh)
    train_step = step.make_train_step(
        graphdef, training_parts.make_computation("finetune"), settings, mesh=mesh, state_shardings=shardings
    )
    final, _ = loop.train(
        train_step,
        start,
        data,
        mesh=mesh,
        log=metrics_log.MetricsLog(tmp_path / "metrics.jsonl"),
        label="test",
        history=loop.History(keep_trace=False),
        failure_path=tmp_path / "failures" / "test.json",
    )
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    model = nnx.merge(graphdef, final.params, final.frozen)
    probs, _ = classify.predict(model, tokens, mesh=mesh, batch_tokens=777, label="test")
    losses_seen = [json.loads(line)["train/loss"] for line in lines]
    log_odds = np.log(probs[:, 1].astype(np.float64)) - np.log(probs[:, 0].astype(np.float64))
    return np.array(losses_seen), log_odds, make_training_run.example_batches(), data


@pytest.mark.parametrize("family", [marks.in_ci("gpt2"), "qwen"])
def test_sixteen_steps_follow_torch(fixtures, tmp_path, family):
    expected = load_file(fixtures / "training_run" / f"{family}.safetensors")
    seen, log_odds, indices, data = train_fixture(fixtures, family, tmp_path)
    for k, batch in enumerate(indices):
        np.testing.assert_array_equal(np.sort(data.batch_at(k).index.reshape(-1)), np.sort(batch))
    assert_follows(seen, log_odds, expected)


def assert_follows(losses, log_odds, expected: dict) -> None:
    assert np.abs(expected["logits"]).max() > 0.1, "torch should have learned something"
    np.testing.assert_allclose(losses, expected["losses"], atol=1e-5)
    logits = expected["logits"].astype(np.float64)
    np.testing.assert_allclose(log_odds, logits[:, 1] - logits[:, 0], atol=1e-4)


# One family in CI: the others' outputs and gradients are compared with torch's there.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("olmo2", marks=pytest.mark.torch),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("mistral", "gpt_neox")),
    ],
)
def test_sixteen_steps_of_other_families_follow_torch(tmp_path, name):
    pytest.importorskip("torch", reason="torch is not installed")
    random_checkpoint.write_random_checkpoint(tmp_path, families.CONFIGS[name], seed=19)
    seen, log_odds, indices, _ = train_run(tmp_path, 19, tmp_path)
    assert_follows(seen, log_odds, make_training_run.run_torch(tmp_path, families.CONFIGS[name], 19, indices))


@pytest.mark.slow
@pytest.mark.ci
def test_sixteen_micro_batched_steps_follow_torch(fixtures, tmp_path):
    expected = load_file(fixtures / "training_run" / "gpt2.safetensors")
    seen, _, _, _ = train_fixture(fixtures, "gpt2", tmp_path, num_micro=4)
    np.testing.assert_allclose(seen, expected["losses"], atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("family", ["gpt2", "qwen"])
def test_committed_training_run_is_what_torch_computes(fixtures, family):
    pytest.importorskip("torch", reason="torch is not installed; the committed run stands in for it")
    expected = load_file(fixtures / "training_run" / f"{family}.safetensors")
    seed = list(make_parity.CONFIGS).index(family)
    config, folder = make_parity.CONFIGS[family], fixtures / f"parity_{family}"
    live = make_training_run.run_torch(folder, config, seed, make_training_run.example_batches())
    np.testing.assert_allclose(live["losses"], expected["losses"], atol=1e-6)
    np.testing.assert_allclose(live["logits"], expected["logits"], atol=1e-5)


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_examples(fixtures, tmp_path, monkeypatch):
    monkeypatch.setattr(make_training_run, "LEARNING_RATE", 1e30)
    with pytest.raises(
        UserError, match=r"test: loss .* at step \d+ of 16 \(first examples: toy/\d+.* all in "
    ):
        train_fixture(fixtures, "gpt2", tmp_path)
    failure = json.loads((tmp_path / "failures" / "test.json").read_text())
    assert len(failure["example_ids"]) == make_training_run.BATCH_SIZE
    assert not np.isfinite(float(failure["metrics"]["grad_norm"])) and failure["step"] < 16


def test_moments_are_kept_in_the_dtype_asked_for(fixtures):
    model = training_parts.make_classifier(fixtures, "gpt2", p_ik_head=False)
    settings = state.OptimizerSettings(1e-3, 4, moment_dtype="bfloat16")
    _, start, _ = state.start(model, settings, sharding.single_device_mesh())
    moments = start.opt_state[0]
    assert {leaf.dtype.name for leaf in jax.tree.leaves((moments.mu, moments.nu))} == {"bfloat16"}


def test_schedule_is_half_a_cosine_from_the_base_rate_to_zero():
    schedule = state.learning_rate_schedule(state.OptimizerSettings(2e-5, 7))
    expected = [2e-5 * (1 + np.cos(np.pi * k / 7)) / 2 for k in range(8)]
    np.testing.assert_allclose([schedule(k) for k in range(8)], expected, atol=1e-11)


STEPS = 7
VARIANTS = {
    "adamw": {"optimizer": "adamw", "weight_decay": 0.3},
    "adafactor": {"optimizer": "adafactor", "weight_decay": 0.01, "warmup_steps": 2},
    "clipped": {"clip_norm": 0.1, "schedule": "linear"},
    "heads": {"trained": "heads", "schedule": "constant"},
}


def params_after(fixtures, variant: str, num_micro: int = 1):
    """Parameters before and after some steps of `selective`, and the optimizer state, by path."""
    options = VARIANTS[variant]
    mesh = sharding.single_device_mesh()
    model = training_parts.make_classifier(fixtures, "gpt2", p_ik_head=True)
    before = {path: np.asarray(v[...]) for path, v in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    settings = state.OptimizerSettings(1e-2, STEPS, **options)
    graphdef, train_state, shardings = state.start(model, settings, mesh)
    train_step = step.make_train_step(
        graphdef, training_parts.make_computation("selective"), settings, mesh=mesh, state_shardings=shardings
    )
    data = training_parts.make_data(
        make_parity.CONFIGS["gpt2"], "selective", num_steps=STEPS, num_micro=num_micro
    )
    for number in range(3):
        train_state, metrics, _ = train_step(train_state, batches.device_batch(data.batch_at(number), mesh))
        assert np.isfinite(metrics["loss"])
    final = nnx.merge_state(train_state.params, train_state.frozen)
    after = {path: np.asarray(v[...]) for path, v in nnx.to_flat_state(final)}
    return before, after, train_state.opt_state


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_optimizer_trains_and_is_the_same_in_micro_batches(fixtures, variant):
    before, after, opt_state = params_after(fixtures, variant)
    _, micro, _ = params_after(fixtures, variant, num_micro=3)
    for path, value in after.items():
        if path[-1] != "qkv_bias":  # that of the keys has no gradient but rounding, which Adam magnifies
            np.testing.assert_allclose(micro[path], value, atol=2e-3, err_msg=str(path))
        moved = not np.array_equal(value, before[path])
        is_frozen = variant == "heads" and path[0] == "backbone"
        assert moved != is_frozen, path
    sizes = sum(leaf.size for leaf in jax.tree.leaves(opt_state))
    weights = sum(value.size for value in before.values())
    if variant == "heads":
        assert sizes < 20 * 2 * make_parity.CONFIGS["gpt2"].embed_dim
    elif variant == "adafactor":
        assert sizes < 1.5 * weights
    else:
        assert sizes > 2 * weights


def test_decay_is_decoupled_from_the_gradient():
    """AdamW = Adam and a pull of learning rate times decay towards zero, as torch.optim.AdamW."""
    params, grads = {"w": jnp.array([2.0, -3.0])}, {"w": jnp.array([0.5, 0.1])}
    found = {}
    for name, decay in (("adam", 0.0), ("adamw", 0.25)):
        settings = state.OptimizerSettings(0.1, 10, optimizer=name, weight_decay=decay, schedule="constant")
        optimizer = state.make_optimizer(settings)
        found[name], _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(found["adamw"]["w"] - found["adam"]["w"], -0.1 * 0.25 * params["w"], rtol=1e-5)


def test_schedules_warm_up_and_fall():
    def rates(**options):
        schedule = state.learning_rate_schedule(state.OptimizerSettings(0.5, 10, **options))
        return [float(schedule(k)) for k in range(11)]

    np.testing.assert_allclose(rates(schedule="constant"), [0.5] * 11)
    np.testing.assert_allclose(rates(schedule="linear"), np.linspace(0.5, 0, 11), atol=1e-7)
    warm = rates(schedule="linear", warmup_steps=4, final_fraction=0.2)
    np.testing.assert_allclose(warm[:5], np.linspace(0, 0.5, 5), atol=1e-7)
    np.testing.assert_allclose(warm[4:], np.linspace(0.5, 0.1, 7), atol=1e-7)
    cosine = rates(warmup_steps=4)
    np.testing.assert_allclose(cosine[4:], 0.25 * (1 + np.cos(np.pi * np.arange(7) / 6)), atol=1e-7)
