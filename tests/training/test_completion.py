"""Training on written answers: Eq. 5 as it is written, whatever the micro-batches, packing and parts; torch's steps."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from etils import epath
from fixtures import make_parity
from flax import nnx
from support import adapted_models, families, marks, training_parts, written_answers

from selw2s_jax import sharding
from selw2s_jax.data import answer_tokens, batches
from selw2s_jax.errors import UserError
from selw2s_jax.hf import pretrained, random_checkpoint
from selw2s_jax.models import decoder, lora
from selw2s_jax.training import checkpointing, completion, fit, state, step

SETTINGS = lora.Settings(rank=3, alpha=5.0, dropout=0.0, targets=("attention", "mlp"))
PARTS = 7  # of the vocabulary, which this does not divide


@pytest.fixture(autouse=True)
def _many_parts(monkeypatch):
    """Logits of a few tokens at once, so that the vocabulary is divided wherever logits are made."""
    monkeypatch.setattr(decoder, "LOGITS_AT_ONCE", 600)


def gradients(model, batch, trained="all", **options):
    computation = completion.completion(**options)
    grads, metrics, trace = training_parts.gradients(model, batch, computation, trained=trained)
    assert trace == ()
    return grads, metrics


def plain_gradients(model, examples, indices, trained="all"):
    graphdef, params, frozen = state.split(model, trained)

    @jax.jit
    @jax.value_and_grad
    def run(params):
        return written_answers.plain_loss(nnx.merge(graphdef, params, frozen), examples, indices)

    value, grads = run(params)
    return jax.tree.map(np.asarray, nnx.to_pure_dict(grads)), float(value)


@pytest.mark.parametrize(
    ("family", "trained"),
    [
        marks.in_ci("qwen", "lora"),
        marks.in_ci("gpt2", "all"),
        marks.in_ci("qwen", "all"),
        marks.in_ci("gpt2", "lora"),
    ],
)
def test_gradients_are_those_of_the_formula(fixtures, family, trained):
    """Of tied and untied heads, with several examples in a row and the vocabulary in parts."""
    config = make_parity.CONFIGS[family]
    model = written_answers.make_model(fixtures / f"parity_{family}", SETTINGS if trained == "lora" else None)
    examples, data = written_answers.make_examples(config), written_answers.make_data(config)
    batch = data.batch_at(2)
    assert batch.tokens.shape[1] < written_answers.BATCH_SIZE
    expected, loss = plain_gradients(model, examples, batch.index[0], trained)
    actual, metrics = gradients(model, batch, trained)
    assert set(actual) == ({"adapters"} if trained == "lora" else {"backbone"})
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(expected)) > 1e-6
    training_parts.assert_trees_close(actual, expected, 1e-5)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    weights = examples.columns["example_weight"][batch.index[0]]
    assert metrics["mean_weight"] == pytest.approx(weights.mean(), rel=1e-5)
    ones = dataclasses.replace(examples, columns=examples.columns | {"example_weight": np.ones(37)})
    clm = written_answers.plain_loss(model, ones, batch.index[0])  # Eq. 1
    assert metrics["loss_unweighted"] == pytest.approx(float(clm), rel=1e-5)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("num_micro", [3, 12])
def test_micro_batches_give_the_full_batch_gradient(fixtures, num_micro):
    """With dropout too."""
    config = make_parity.CONFIGS["qwen"]
    settings = dataclasses.replace(SETTINGS, dropout=0.4, targets=("qkv",))
    model = written_answers.make_model(fixtures / "parity_qwen", settings)
    expected, metrics = gradients(model, written_answers.make_data(config).batch_at(1), "lora")
    micro = written_answers.make_data(config, num_micro=num_micro).batch_at(1)
    assert micro.tokens.shape[0] == num_micro
    actual, micro_metrics = gradients(model, micro, "lora")
    training_parts.assert_trees_close(actual, expected, 1e-5)
    assert micro_metrics == pytest.approx(metrics, rel=1e-5)


@pytest.mark.slow
@pytest.mark.ci
def test_rows_and_padding_change_nothing(fixtures):
    """A row for each example, more places for answers, and slots of padding that hold NaN."""
    config = make_parity.CONFIGS["gpt2"]
    model = written_answers.make_model(fixtures / "parity_gpt2", SETTINGS)
    batch = written_answers.make_data(config).batch_at(0)
    expected, metrics = gradients(model, batch, "lora")
    alone = written_answers.make_data(config, row_multiple=written_answers.BATCH_SIZE).batch_at(0)
    assert alone.tokens.shape[1] == written_answers.BATCH_SIZE > batch.tokens.shape[1]
    np.testing.assert_array_equal(alone.index, batch.index)
    wide = [
        np.pad(grid, ((0, 0), (0, 0), (0, 5)), constant_values=value)
        for grid, value in zip(batch.answers, (0, written_answers.BATCH_SIZE), strict=True)
    ]
    wide = batch._replace(answers=answer_tokens.Answers(*wide))
    fields = ("index", "row", "last", "kind", "weight", "columns")
    padded = batch._replace(
        **{
            name: jax.tree.map(lambda x: np.concatenate([x, x[:, :5] * 0], axis=1), getattr(batch, name))
            for name in fields
        }
    )
    for column in padded.columns.values():
        column[:, -5:] = np.nan
    for other in (alone, wide, padded):
        actual, other_metrics = gradients(model, other, "lora")
        training_parts.assert_trees_close(actual, expected, 1e-5)
        assert other_metrics == pytest.approx(metrics, rel=1e-5)


@pytest.mark.slow
@pytest.mark.ci
def test_rows_of_weight_zero_only_count(fixtures):
    """What is in them changes nothing; with half of the rows of weight 0, the loss is half that of the others."""
    config = make_parity.CONFIGS["gpt2"]
    model = written_answers.make_model(fixtures / "parity_gpt2", SETTINGS)
    examples = written_answers.make_examples(config)
    order = written_answers.make_data(config).batch_at(0).index[0]
    silent = order[::2]
    examples.columns["example_weight"][:] = 0.7
    examples.columns["example_weight"][silent] = 0.0
    expected, metrics = gradients(model, written_answers.make_data(config, examples).batch_at(0), "lora")
    for index in silent:
        examples.tokens[index] = (examples.tokens[index] + 1) % config.vocab_size
    other, other_metrics = gradients(model, written_answers.make_data(config, examples).batch_at(0), "lora")
    jax.tree.map(np.testing.assert_array_equal, other, expected)
    assert other_metrics["loss"] == metrics["loss"]
    assert other_metrics["loss_unweighted"] != metrics["loss_unweighted"]
    half, loss = plain_gradients(model, examples, order[1::2], "lora")
    training_parts.assert_trees_close(expected, jax.tree.map(lambda x: x / 2, half), 1e-5)
    assert metrics["loss"] == pytest.approx(loss / 2, rel=1e-5)


def test_other_means_and_without_weights():
    """Of the loss alone: (S, sum of -log p, tokens) of three rows and one of padding."""
    sums, tokens = -jnp.array([2.0, 6.0, 1.0, 5.0]), np.float32([1, 3, 2, 4])
    batch = batches.Batch(*[None] * 6, np.zeros(4, int), np.float32([1, 1, 1, 0]), {})
    by_name = {answer_tokens.COLUMN: tokens, "example_weight": np.float32([1, 0.5, 0, np.nan])}

    def loss(columns, **options):
        run = completion.completion(**options).loss
        return float(run(sums, batch._replace(columns=columns), jnp.float32(0))[0])

    assert loss(by_name) == pytest.approx((2 + 0.5 * 2) / 3)
    assert loss(by_name, normalize=True) == pytest.approx((2 + 0.5 * 2) / 1.5)
    assert loss(by_name, mean="tokens") == pytest.approx((2 + 0.5 * 6) / 6)
    del by_name["example_weight"]
    assert loss(by_name) == pytest.approx((2 + 2 + 0.5) / 3)
    with pytest.raises(ValueError, match="mean is 'row'"):
        completion.completion(mean="row")


# Modules and states.


def built(trained: str, **options) -> pretrained.LanguageModelSettings:
    options = {"param_dtype": "float32", "compute_dtype": "bfloat16"} | options
    adapters = dataclasses.replace(SETTINGS, dropout=0.05) if trained == "lora" else None
    return pretrained.LanguageModelSettings(
        trained=trained, adapters=adapters, mesh=sharding.single_device_mesh(), **options
    )


def run_steps(model, data, settings: state.OptimizerSettings):
    mesh = sharding.single_device_mesh()
    graphdef, train_state, shardings = state.start(model, settings, mesh)
    train_step = step.make_train_step(
        graphdef, completion.completion(), settings, mesh=mesh, state_shardings=shardings
    )
    found = []
    for number in range(data.num_steps):
        batch = batches.device_batch(data.batch_at(number), mesh)
        train_state, metrics, _ = train_step(train_state, batch)
        found.append(jax.tree.map(float, metrics))
    return graphdef, train_state, found


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("trained", ["lora", "all"])
def test_a_trained_model_is_found_again(fixtures, tmp_path, trained):
    """Adapters in float32 beside weights in bfloat16, or all weights; nothing else is kept."""
    folder, mesh = fixtures / "parity_qwen", sharding.single_device_mesh()
    config, settings = make_parity.CONFIGS["qwen"], built(trained)
    data = written_answers.make_data(config)
    optimizer = state.OptimizerSettings(1e-2, data.num_steps, trained=trained)
    graphdef, after, metrics = run_steps(pretrained.load_trainable(folder, settings), data, optimizer)
    assert all(np.isfinite(one["loss"]) for one in metrics)
    assert {path[0] for path, _ in nnx.to_flat_state(after.params)} == {
        "adapters" if trained == "lora" else "backbone"
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
    frozen = {v.dtype for _, v in nnx.to_flat_state(after.frozen) if isinstance(v, nnx.Param)}
    assert frozen == ({jnp.dtype("bfloat16")} if trained == "lora" else set())
    checkpointing.save_params(tmp_path / "params", after.params)
    loaded = state.load_trained(
        tmp_path / "params",
        pretrained.abstract_trainable(config, settings),
        trained,
        lambda: pretrained.load_trainable(folder, settings),
        mesh,
    )
    model = nnx.merge(graphdef, after.params, after.frozen)
    adapted_models.assert_equal_trees(nnx.state(loaded), nnx.state(model))
    tokens = np.arange(9, dtype=np.int32)[None]
    np.testing.assert_array_equal(loaded.hidden_states(tokens), model.hidden_states(tokens))


def test_a_model_that_writes_has_no_heads_to_train():
    with pytest.raises(UserError, match=r"trained='heads' .* choose lora or all"):
        built("heads")


@pytest.mark.slow
@pytest.mark.ci
def test_a_saved_state_goes_on_bit_for_bit(fixtures, tmp_path):
    """Of adapters with dropout, in micro-batches; the weights beside them are not saved."""
    mesh, folder = sharding.single_device_mesh(), fixtures / "parity_qwen"
    settings, optimizer = built("lora"), state.OptimizerSettings(1e-2, 5, trained="lora", clip_norm=1.0)
    data = written_answers.make_data(make_parity.CONFIGS["qwen"], num_steps=5, num_micro=2)

    def go():
        files = fit.Files(
            epath.Path(tmp_path),
            "student",
            "key",
            ml_collections.ConfigDict({"every_steps": 2, "keep": 9}),
            ml_collections.ConfigDict({"tensorboard": False, "every_steps": 1}),
        )
        fitted = fit.fit(
            data,
            pretrained.abstract_trainable(make_parity.CONFIGS["qwen"], settings),
            lambda: pretrained.load_trainable(folder, settings),
            objective=("completion", "rows", False),
            computation=completion.completion(),
            optimizer=optimizer,
            mesh=mesh,
            files=files,
            train_steps={},
            keep_trace=False,
        )
        return jax.device_get(fitted.state), fitted.metrics

    whole, metrics = go()
    resumed, resumed_metrics = go()  # from step 4 on
    adapted_models.assert_equal_trees(resumed, whole)
    assert resumed_metrics == metrics
    stored = (tmp_path / "checkpoints" / "key" / "4" / "state" / "_METADATA").read_text()
    assert "adapters" in stored and "backbone" not in stored


# torch.

NUM_STEPS, RATE = 16, 2e-2
TORCH_LORA = lora.Settings(rank=3, alpha=6.0, dropout=0.0, targets=("q", "v"))


def run_torch(folder, config, adapters, examples, all_indices):
    """Losses and gradient norms of steps as Hugging Face's Trainer takes them, with LoRA as PEFT has it.

    AdamW without decay, linear to 0 without warm-up, gradients clipped at 1; the mean over an answer's tokens, the sum
    of weight times this over the rows of the batch.
    """
    import torch

    torch.use_deterministic_algorithms(True)
    model, _ = make_parity.build(folder, config)
    model.requires_grad_(False)
    model.eval()

    class Adapted(torch.nn.Module):
        def __init__(self, base, a, b):
            super().__init__()
            self.base = base
            self.a = torch.nn.Parameter(torch.tensor(np.asarray(a)))
            self.b = torch.nn.Parameter(torch.tensor(np.asarray(b)).reshape(-1, b.shape[-1]))

        def forward(self, x):
            scale = TORCH_LORA.alpha / TORCH_LORA.rank
            return self.base(x) + scale * (x @ self.a.T) @ self.b.T

    for number, layer in enumerate(model.model.layers):
        for name in "qv":
            adapter = adapters[f"attn.{name}"]
            base = getattr(layer.self_attn, f"{name}_proj")
            setattr(layer.self_attn, f"{name}_proj", Adapted(base, adapter.a[number], adapter.b[number]))
    params = [p for p in model.parameters() if p.requires_grad]
    assert len(params) == 2 * 2 * config.num_layers
    optimizer = torch.optim.AdamW(params, lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / NUM_STEPS)
    losses, norms = [], []
    for indices in all_indices:
        total = 0.0
        for index in indices:
            ids = torch.tensor(examples.tokens[index]).long()[None]
            count = int(examples.columns[answer_tokens.COLUMN][index])
            labels = ids.clone()
            labels[:, :-count] = -100
            logits = model(ids).logits
            mean = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:])  # -100 is left out
            total = total + float(examples.columns["example_weight"][index]) * mean
        loss = total / len(indices)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(params, 1.0).item())
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return np.array(losses), np.array(norms)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("qwen2", marks=pytest.mark.torch), "llama"])
def test_sixteen_steps_of_adapters_follow_torch(tmp_path, name):
    """Of a tied head and one of its own; two micro-batches."""
    pytest.importorskip("torch", reason="torch is not installed")
    config = families.CONFIGS[name]
    random_checkpoint.write_random_checkpoint(tmp_path, config, seed=21)
    examples = written_answers.make_examples(config, 61)
    examples.columns["example_weight"] *= 3  # so that some gradients are clipped
    data = written_answers.make_data(config, examples, num_steps=NUM_STEPS, num_micro=2)
    indices = [data.batch_at(number).index.reshape(-1) for number in range(NUM_STEPS)]
    model = written_answers.make_model(tmp_path, TORCH_LORA, fresh=True)
    assert model.adapters.names == ("attn.q", "attn.v")
    expected, norms = run_torch(tmp_path, config, model.adapters, examples, indices)
    settings = state.OptimizerSettings(
        RATE, NUM_STEPS, optimizer="adamw", schedule="linear", clip_norm=1.0, trained="lora"
    )
    _, _, metrics = run_steps(model, data, settings)
    np.testing.assert_allclose([one["loss"] for one in metrics], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose([one["grad_norm"] for one in metrics], norms, rtol=1e-3)
    assert norms.max() > 1 > norms.min(), norms
    assert [one["learning_rate"] for one in metrics] == pytest.approx(
        [RATE * (1 - k / NUM_STEPS) for k in range(NUM_STEPS)], rel=1e-5
    )
