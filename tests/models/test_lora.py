"""What is trained and what stays: linear probes and low-rank adapters, from the gradient to the exported folder."""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import make_parity
from flax import nnx
from safetensors.numpy import load_file
from support import training_parts, training_stages

from selw2s_jax import config as config_lib
from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks
from selw2s_jax.hf import peft
from selw2s_jax.models import decoder, heads, lora, registry
from selw2s_jax.stages import train
from selw2s_jax.training import checkpointing, loop, metrics_log, state, step
from selw2s_jax.worlds import smoke

BOTH = ("attention", "mlp")
SETTINGS = lora.Settings(rank=3, alpha=5.0, dropout=0.0, targets=BOTH)
STEPS = 5


def make_classifier(fixtures, family: str, settings: lora.Settings | None = SETTINGS, *, fresh=False, seed=7):
    """A parity checkpoint under heads, and adapters unless fresh, that are not zero."""
    plain = training_parts.make_classifier(fixtures, family, p_ik_head=True)
    model = heads.Classifier(plain.backbone, p_ik_head=True, adapters=settings, seed=seed)
    model.class_head, model.p_ik_head = plain.class_head, plain.p_ik_head
    rng = np.random.default_rng(11)
    for name in () if fresh or settings is None else model.adapters.names:
        b = model.adapters[name].b
        b[...] = jnp.asarray(0.3 * rng.standard_normal(b.shape), jnp.float32)
    return model


def make_batch(family: str, **options) -> batches.Batch:
    return training_parts.make_data(make_parity.CONFIGS[family], "selective", **options).batch_at(2)


def outputs(model, batch: batches.Batch, dropout=None) -> heads.Outputs:
    return model(
        batch.tokens[0],
        batch.segment_ids[0],
        batch.positions[0],
        batch.row[0],
        batch.last[0],
        dropout=dropout,
    )


def assert_equal_trees(actual, expected) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_the_settings_are_those_of_the_config():
    section = config_lib.default_config().lora
    assert dataclasses.asdict(lora.make_settings("lora", section)) == section.to_dict()
    swapped = section.to_dict() | {"targets": ("mlp", "attention", "mlp")}
    assert lora.make_settings("lora", swapped).targets == ("attention", "mlp")
    assert lora.make_settings("all", section) is None and lora.make_settings("heads", section) is None


# The branch.


@pytest.mark.parametrize(
    ("family", "targets"), [("gpt2", BOTH), ("qwen", ("mlp",)), ("qwen", ("attention",))]
)
def test_an_adapted_model_starts_as_the_pretrained_one_bit_for_bit(fixtures, family, targets):
    plain = make_classifier(fixtures, family, None)
    adapted = make_classifier(fixtures, family, dataclasses.replace(SETTINGS, targets=targets), fresh=True)
    parts = {name.split(".")[0] for name in adapted.adapters.names}
    assert parts == {lora.PARTS[target] for target in targets}
    assert all(np.any(adapted.adapters[name].a[...]) for name in adapted.adapters.names)
    batch = make_batch(family)
    assert_equal_trees(outputs(adapted, batch), outputs(plain, batch))


def test_every_weight_of_a_target_is_adapted(fixtures):
    names = {family: make_classifier(fixtures, family).adapters.names for family in ("gpt2", "qwen")}
    assert set(names["gpt2"]) == {"attn.qkv", "attn.out", "mlp.up", "mlp.down"}
    assert set(names["qwen"]) == {"attn.qkv", "attn.out", "mlp.up", "mlp.gate", "mlp.down"}


def test_targets_may_be_single_weights_of_a_family():
    found = {}
    for name in registry.FAMILIES:
        toy = next(one for one in smoke.RANDOM_MODELS.values() if one.family == name)
        model = decoder.abstract_decoder(toy)
        found[name] = {weight.split(".")[1] for weight in lora.target_weights(model, BOTH)}
        for weight in found[name]:
            (only,) = lora.target_weights(model, (weight,))
            assert only.endswith(f".{weight}")
        assert next(iter(lora.target_weights(model, ("out", "mlp")))) == "attn.out"
    assert set().union(*found.values()) == {*lora.WEIGHTS}
    assert found["llama"] == {"q", "k", "v", "out", "up", "gate", "down"}


def test_a_target_that_the_model_lacks_is_refused():
    stage = training_stage(training__trained="lora", lora__targets=("q", "v"))
    with pytest.raises(UserError, match="targets='q' is no weight of the family qwen, which has attention, "):
        stage.check()


@pytest.mark.parametrize("family", ["gpt2", "qwen"])
def test_shapes_axes_and_number_of_parameters(family):
    config = make_parity.CONFIGS[family]
    backbone = decoder.abstract_decoder(config)
    adapters = nnx.eval_shape(lambda: lora.Adapters(backbone, SETTINGS, seed=0, param_dtype="bfloat16"))
    weights = lora.target_weights(backbone, BOTH)
    assert set(weights) == set(adapters.names)
    total = 0
    for name, weight in weights.items():
        metadata, adapter = weight.get_metadata(), adapters[name]
        sizes = dict(zip(metadata["axes"], weight.shape, strict=True)) | {"rank": SETTINGS.rank}
        for param, inner in ((adapter.a, True), (adapter.b, False)):
            axes = param.get_metadata()["axes"]
            assert param.shape == tuple(sizes[axis] for axis in axes) and param.dtype == jnp.bfloat16
            wanted = {axis for axis in metadata["axes"][1:] if (axis in metadata["inputs"]) == inner}
            assert set(axes) == wanted | {"layers", "rank"}
            total += np.prod(param.shape)
    assert lora.num_params(backbone.config, SETTINGS) == total


@pytest.mark.parametrize("family", ["gpt2", "qwen"])
def test_merged_weights_compute_the_same(fixtures, family):
    model, batch = make_classifier(fixtures, family), make_batch(family)
    before = outputs(model, batch)
    plain = outputs(make_classifier(fixtures, family, None), batch)
    assert np.abs(before.embeddings - plain.embeddings).max() > 0.01
    lora.merge(model)
    assert model.adapters is None
    after = outputs(model, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), after, before)


def add_products(weights, ab):
    """W + s B A of every adapted weight, written out by the letters of each family's products."""
    letters = {
        # weight, A, B, of a layer each
        "gpt2": {
            "attn.qkv": "kd,cnhk->dcnh", "attn.out": "knh,dk->nhd",
            "mlp.up": "kd,fk->df", "mlp.down": "kf,dk->fd",
        },
        "qwen": {
            "attn.qkv": "kd,cnhk->cnhd", "attn.out": "knh,dk->dnh",
            "mlp.up": "kd,fk->fd", "mlp.gate": "kd,fk->fd", "mlp.down": "kf,dk->df",
        },
    }  # fmt: skip
    family = "qwen" if "mlp.gate" in weights else "gpt2"
    return {
        name: weight
        + SETTINGS.alpha
        / SETTINGS.rank
        * jax.vmap(functools.partial(jnp.einsum, letters[family][name], precision="highest"))(*ab[name])
        for name, weight in weights.items()
    }


@pytest.mark.parametrize("family", ["gpt2", "qwen"])
def test_gradients_are_those_of_the_summed_weights(fixtures, family):
    """dL/dA and dL/dB by `loss_and_grads` against jax.grad through W + s B A in place of W."""
    model, batch = make_classifier(fixtures, family), make_batch(family)
    computation = training_parts.make_computation("selective")
    found, metrics, _ = training_parts.gradients(model, batch, computation, trained="lora")
    assert set(found) == {"adapters", "class_head", "p_ik_head"}

    plain = make_classifier(fixtures, family, None)
    weights = {name: w[...] for name, w in lora.target_weights(plain.backbone, BOTH).items()}
    ab = {name: (model.adapters[name].a[...], model.adapters[name].b[...]) for name in weights}
    graphdef, params = nnx.split(plain)

    def loss(ab):
        state = jax.tree.map(lambda x: x, params)
        for name, value in add_products(weights, ab).items():
            part, leaf = name.split(".")
            variable = state["backbone"]["layers"][part][leaf]
            state["backbone"]["layers"][part][leaf] = variable.replace(value)
        flat = jax.tree.map(lambda x: x[0], batch)
        return computation.loss(outputs(nnx.merge(graphdef, state), batch), flat, jnp.float32(0.25))[0]

    value, expected = jax.jit(jax.value_and_grad(loss))(ab)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    actual = {
        name: (found["adapters"][name.replace(".", "_")]["a"], found["adapters"][name.replace(".", "_")]["b"])
        for name in weights
    }
    assert all(np.abs(grad).max() > 1e-4 for grad in jax.tree.leaves(expected))
    training_parts.assert_trees_close(actual, jax.tree.map(np.asarray, expected), 1e-5)


# Dropout.

# Of one target, as the random numbers of each adapter take long to compile.
DROPPING = dataclasses.replace(SETTINGS, dropout=0.4, targets=("mlp",))


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(("family", "dropout"), [("gpt2", 0.4), ("qwen", 0.0)])
def test_micro_batches_give_the_full_batch_gradient(fixtures, family, dropout):
    """With dropout too: a token's mask is the same in whichever micro-batch and row it lies, in both passes."""
    model = make_classifier(fixtures, family, dataclasses.replace(DROPPING, dropout=dropout))
    computation = training_parts.make_computation("selective")
    run = functools.partial(training_parts.gradients, model, computation=computation, trained="lora")
    expected, metrics, _ = run(make_batch(family))
    actual, micro_metrics, _ = run(make_batch(family, num_micro=3))
    training_parts.assert_trees_close(actual, expected, 1e-5)
    assert micro_metrics == pytest.approx(metrics, rel=1e-5, abs=1e-6)


def test_dropout_depends_on_seed_and_step_and_is_not_there_in_scoring(fixtures):
    batch = jax.tree.map(lambda x: jnp.asarray(x[0]), make_batch("gpt2"))

    def embeddings(seed, step_number, dropout=0.4):
        settings = dataclasses.replace(DROPPING, dropout=dropout)
        model = make_classifier(fixtures, "gpt2", settings, seed=seed)
        for name in model.adapters.names:  # A as it is with seed 7, to see the dropout alone
            model.adapters[name].a[...] = make_a[name]
        return np.asarray(step.classify(model, batch, jnp.int32(step_number)).embeddings)

    first = make_classifier(fixtures, "gpt2", DROPPING).adapters
    make_a = {name: first[name].a[...] for name in first.names}
    base = embeddings(7, 3)
    np.testing.assert_array_equal(embeddings(7, 3), base)
    scored = embeddings(7, 3, dropout=0.0)
    for other in (embeddings(8, 3), embeddings(7, 4), scored):
        assert np.abs(other - base).max() > 1e-3
    model = make_classifier(fixtures, "gpt2", DROPPING)
    np.testing.assert_array_equal(
        model(batch.tokens, batch.segment_ids, batch.positions, batch.row, batch.last).embeddings, scored
    )


def test_masks_keep_the_mean_and_differ_between_tokens_and_layers(fixtures):
    adapter = make_classifier(fixtures, "gpt2", DROPPING).adapters["mlp.down"]
    rows, length = 23, 31
    example, position = jnp.mgrid[1 : rows + 1, :length]
    dropout = lora.Dropout(jnp.int32(2), example, position)
    masks = []
    for layer in range(2):
        of_layer = nnx.clone(adapter)
        of_layer.seed.set_value(adapter.seed[...][layer])
        masks.append(np.asarray(of_layer._drop(jnp.ones((rows, length, 17)), dropout)))
    for mask in masks:
        np.testing.assert_allclose(np.unique(mask), [0.0, 1 / 0.6], rtol=1e-6)
        assert abs(mask.mean() - 1) < 0.03
        assert len(np.unique(mask.reshape(-1, 17), axis=0)) > 0.98 * rows * length
    assert np.mean(masks[0] == masks[1]) < 0.6


# The step.


def run_steps(model, trained: str, *, stop: int = STEPS):
    """The state before the first step and after some, and the graphdef."""
    mesh = sharding.single_device_mesh()
    settings = state.OptimizerSettings(1e-2, STEPS, trained=trained)
    graphdef, train_state, shardings = state.start(model, settings, mesh)
    before = jax.device_get(train_state)
    train_step = step.make_train_step(
        graphdef, training_parts.make_computation("selective"), settings, mesh=mesh, state_shardings=shardings
    )
    data = training_parts.make_data(make_parity.CONFIGS["gpt2"], "selective", num_steps=STEPS)
    for number in range(stop):
        train_state, *_ = train_step(train_state, batches.device_batch(data.batch_at(number), mesh))
    return before, train_state, graphdef


@pytest.mark.parametrize("trained", ["heads", "lora"])
def test_only_what_is_trained_moves_and_has_moments(fixtures, trained):
    settings = DROPPING if trained == "lora" else None
    before, after, _ = run_steps(make_classifier(fixtures, "gpt2", settings), trained)
    assert_equal_trees(jax.device_get(after.frozen), before.frozen)
    paths = {path[0] for path, _ in nnx.to_flat_state(after.params)}
    assert paths == {"class_head", "p_ik_head"} | ({"adapters"} if trained == "lora" else set())
    for old, new in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True):
        assert not np.array_equal(old, new)
    shapes = [leaf.shape for leaf in jax.tree.leaves(after.params)]
    moments = [leaf.shape for leaf in jax.tree.leaves(after.opt_state) if leaf.ndim]
    assert sorted(moments) == sorted(shapes * 2)


def test_all_has_nothing_frozen(fixtures):
    before, after, _ = run_steps(make_classifier(fixtures, "gpt2", None), "all", stop=1)
    assert not jax.tree.leaves(before.frozen) and not jax.tree.leaves(after.frozen)


@pytest.mark.slow
def test_a_linear_probe_is_what_jax_grad_makes_of_fixed_embeddings(fixtures):
    model = make_classifier(fixtures, "gpt2", None)
    embed = [
        outputs(model, batch).embeddings
        for batch in map(
            training_parts.make_data(make_parity.CONFIGS["gpt2"], "selective", num_steps=STEPS).batch_at,
            range(STEPS),
        )
    ]
    computation = training_parts.make_computation("selective")
    weights = {name: getattr(model, name)[...] for name in ("class_head", "p_ik_head")}
    settings = state.OptimizerSettings(1e-2, STEPS)
    optimizer = state.make_optimizer(settings)
    opt_state = optimizer.init(weights)
    data = training_parts.make_data(make_parity.CONFIGS["gpt2"], "selective", num_steps=STEPS)
    for number in range(STEPS):
        flat = jax.tree.map(lambda x: x[0], data.batch_at(number))

        def loss(weights, embeddings=embed[number], flat=flat, number=number):
            logits = {
                k: jnp.einsum("ed,cd->ec", embeddings, w, precision="highest") for k, w in weights.items()
            }
            out = heads.Outputs(logits["class_head"], logits["p_ik_head"], embeddings)
            return computation.loss(out, flat, jnp.float32(number / STEPS))[0]

        updates, opt_state = optimizer.update(jax.grad(loss)(weights), opt_state, weights)
        weights = jax.tree.map(jnp.add, weights, updates)
    _, after, _ = run_steps(model, "heads")
    for name, expected in weights.items():
        np.testing.assert_allclose(after.params[name][...], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", ["heads", "lora"])
def test_frozen_weights_may_be_narrower(fixtures, trained):
    """Backbone in bfloat16, heads and adapters in float32: so they stay, and so are the moments."""
    backbone = make_classifier(fixtures, "gpt2", None).backbone
    wide = nnx.state(backbone)
    graphdef = nnx.split(
        decoder.abstract_decoder(backbone.config, param_dtype="bfloat16", compute_dtype="bfloat16")
    )[0]
    backbone = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(jnp.bfloat16), wide))
    model = heads.Classifier(
        backbone, p_ik_head=True, adapters=SETTINGS if trained == "lora" else None, param_dtype="float32"
    )
    _, after, _ = run_steps(model, trained, stop=2)
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
    dtypes = {v.dtype for _, v in nnx.to_flat_state(after.frozen) if isinstance(v, nnx.Param)}
    assert dtypes == {jnp.dtype("bfloat16")}


# States of a run under way.


@pytest.mark.slow
@pytest.mark.ci
def test_a_saved_state_is_without_what_is_frozen_and_goes_on_bit_for_bit(fixtures, tmp_path):
    mesh = sharding.single_device_mesh()
    settings = state.OptimizerSettings(1e-2, STEPS, trained="lora")
    data = training_parts.make_data(make_parity.CONFIGS["gpt2"], "selective", num_steps=STEPS, num_micro=2)

    def go(folder: pathlib.Path):
        model = make_classifier(fixtures, "gpt2", DROPPING)
        with checkpointing.Checkpoints(folder, every_steps=2, keep=9) as checkpoints:
            _, abstract, _ = state.abstract(model, settings, mesh)
            saved = checkpoints.latest(abstract._replace(frozen=()))
            if saved is None:
                graphdef, train_state, shardings = state.start(model, settings, mesh)
            else:
                assert saved.state.frozen == ()
                graphdef, _, shardings = state.abstract(model, settings, mesh)
                train_state = state.resume(saved.state, model, settings, mesh)
            final, metrics = loop.train(
                step.make_train_step(
                    graphdef,
                    training_parts.make_computation("selective"),
                    settings,
                    mesh=mesh,
                    state_shardings=shardings,
                ),
                train_state,
                data,
                mesh=mesh,
                log=metrics_log.MetricsLog(folder.with_suffix(".jsonl")),
                label="test",
                history=loop.History(keep_trace=True, saved=saved),
                checkpoints=checkpoints,
            )
        return jax.device_get(final), metrics, saved

    whole, metrics, saved = go(tmp_path / "whole")
    assert saved is None
    resumed, resumed_metrics, saved = go(tmp_path / "whole")  # from step 4 on
    assert saved.step == 4
    assert_equal_trees(resumed, whole)
    assert resumed_metrics == metrics
    stored = (tmp_path / "whole" / "4" / "state" / "_METADATA").read_text()
    assert "adapters" in stored and "backbone" not in stored


def training_stage(**overrides) -> train.Train:
    config = config_lib.default_config()
    for key, value in overrides.items():
        section, leaf = key.split("__")
        config[section][leaf] = value
    return training_stages.make("finetune", config, make_parity.CONFIGS["qwen"])


def test_keys_depend_on_adapters_only_where_there_are_some():
    other = {
        "lora__rank": 3,
        "lora__alpha": 2.0,
        "lora__dropout": 0.5,
        "lora__targets": BOTH,
        "seed__init": 9,
    }
    for trained in ("all", "heads"):
        plain = training_stage(training__trained=trained)
        for key, value in other.items():
            assert training_stage(training__trained=trained, **{key: value}).key == plain.key
    keys = {training_stage(training__trained="lora", **{key: value}).key for key, value in other.items()}
    keys |= {training_stage(training__trained=trained).key for trained in ("all", "heads", "lora")}
    assert len(keys) == len(other) + 3
    swapped = training_stage(training__trained="lora", lora__targets=BOTH[::-1])
    assert swapped.key == training_stage(training__trained="lora", lora__targets=BOTH).key


def test_the_disk_check_counts_what_is_kept():
    config = make_parity.CONFIGS["qwen"]
    num_heads = 2 * 2 * config.embed_dim
    assert training_stage(training__trained="heads").num_bytes == 4 * num_heads
    settings = lora.make_settings("lora", config_lib.default_config().lora)
    adapters = lora.num_params(config, settings)
    assert training_stage(training__trained="lora").num_bytes == 4 * (num_heads + adapters)
    everything = decoder.num_params(config, lm_head=False) + num_heads
    assert training_stage().num_bytes == 4 * everything


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"trained": "head"},
            r"config.training.trained='head' is not one of: all, heads, lora; did you mean",
        ),
        ({"rank": 0}, "config.lora.rank=0 must be greater than 0"),
        ({"alpha": -1.0}, "config.lora.alpha=-1.0 must be greater than 0"),
        ({"dropout": 1.0}, r"config.lora.dropout=1.0 must lie in \[0, 1\)"),
        (
            {"targets": ("attn",)},
            r"config.lora.targets='attn' is not one of: attention, mlp, q, .*; did you mean",
        ),
        ({"targets": ()}, "config.lora.targets is empty: name one or more of attention, mlp"),
    ],
)
def test_wrong_values_are_one_line(overrides, message):
    config = config_lib.default_config()
    config.weak.model = config.strong.model = "gpt2"
    for key, value in overrides.items():
        (config.training if key == "trained" else config.lora)[key] = value
    with pytest.raises(UserError, match=message) as info:
        checks.validate(config_lib.normalize(config), students=("finetune", "selective"))
    assert "\n" not in str(info.value)


def test_targets_of_the_command_line_are_taken_apart():
    config = config_lib.default_config()
    config.lora.targets = ("attention,mlp",)
    assert config_lib.normalize(config).lora.targets == BOTH


@pytest.mark.parametrize("family", ["gpt2", "qwen"])
def test_files_of_adapters(fixtures, tmp_path, family):
    model, config = make_classifier(fixtures, family), make_parity.CONFIGS[family]
    peft.save(tmp_path, model, base="org/base", dtype="float32", main_head="class_head")
    fields = json.loads((tmp_path / peft.CONFIG_NAME).read_text())
    assert (fields["r"], fields["lora_alpha"], fields["fan_in_fan_out"]) == (3, 5.0, family == "gpt2")
    modules = {
        "gpt2": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
        "qwen": ["attn.c_attn", "attn.c_proj", "mlp.c_proj", "mlp.w1", "mlp.w2"],
    }
    assert fields["target_modules"] == modules[family]
    arrays = load_file(tmp_path / peft.WEIGHTS_NAME)
    if family == "gpt2":
        np.testing.assert_array_equal(arrays.pop("base_model.model.score.weight"), model.class_head[...])
    prefixes = [
        f"base_model.model.transformer.h.{i}.{m}" for i in range(config.num_layers) for m in modules[family]
    ]
    assert set(arrays) == {f"{prefix}.lora_{part}.weight" for prefix in prefixes for part in "AB"}
    a, b = (arrays[f"base_model.model.transformer.h.1.attn.c_attn.lora_{part}.weight"] for part in "AB")
    weight = lora.target_weights(model.backbone, BOTH)["attn.qkv"]
    product = model.adapters["attn.qkv"].product(weight)[1]
    product = (
        product.reshape(config.embed_dim, -1).T if family == "gpt2" else product.reshape(-1, config.embed_dim)
    )
    np.testing.assert_allclose(5.0 / 3 * b @ a, product, rtol=1e-5, atol=1e-6)


@pytest.mark.torch
def test_peft_computes_the_same(fixtures, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    library = pytest.importorskip("peft", reason="peft is not installed")
    import transformers

    model, config = make_classifier(fixtures, "gpt2"), make_parity.GPT2_CONFIG
    peft.save(tmp_path, model, base="org/base", dtype="float32", main_head="class_head")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        fixtures / "parity_gpt2", num_labels=2, attn_implementation="eager"
    )
    adapted = library.PeftModel.from_pretrained(base, tmp_path).eval()
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (1, 9), dtype=np.int32)
    zero = np.zeros(1, np.int32)
    ours = model(tokens, None, None, zero, zero + 8).class_logits
    with torch.no_grad():
        theirs = adapted(torch.from_numpy(tokens).long()).logits
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)
