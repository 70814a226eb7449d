"""What is trained and what stays: linear probes and low-rank adapters, from the gradient to the exported folder."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import make_parity
from flax import nnx
from safetensors.numpy import load_file
from support import adapted_models, marks, training_parts, training_stages

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks
from selw2s_jax.hf import peft
from selw2s_jax.models import decoder, lora, registry
from selw2s_jax.stages import train
from selw2s_jax.training import step
from selw2s_jax.worlds import smoke


def test_the_settings_are_those_of_the_config():
    section = config_lib.default_config().lora
    assert dataclasses.asdict(lora.make_settings("lora", section)) == section.to_dict()
    swapped = section.to_dict() | {"targets": ("mlp", "attention", "mlp")}
    assert lora.make_settings("lora", swapped).targets == ("attention", "mlp")
    assert lora.make_settings("all", section) is None and lora.make_settings("heads", section) is None


# The branch.


@pytest.mark.parametrize(
    ("family", "targets"),
    [("gpt2", adapted_models.BOTH), marks.in_ci("qwen", ("mlp",)), marks.in_ci("qwen", ("attention",))],
)
def test_an_adapted_model_starts_as_the_pretrained_one_bit_for_bit(fixtures, family, targets):
    plain = adapted_models.make_classifier(fixtures, family, None)
    adapted = adapted_models.make_classifier(
        fixtures, family, dataclasses.replace(adapted_models.SETTINGS, targets=targets), fresh=True
    )
    parts = {name.split(".")[0] for name in adapted.adapters.names}
    assert parts == {lora.PARTS[target] for target in targets}
    assert all(np.any(adapted.adapters[name].a[...]) for name in adapted.adapters.names)
    batch = adapted_models.make_batch(family)
    adapted_models.assert_equal_trees(
        adapted_models.outputs(adapted, batch), adapted_models.outputs(plain, batch)
    )


def test_every_weight_of_a_target_is_adapted(fixtures):
    names = {
        family: adapted_models.make_classifier(fixtures, family).adapters.names for family in ("gpt2", "qwen")
    }
    assert set(names["gpt2"]) == {"attn.qkv", "attn.out", "mlp.up", "mlp.down"}
    assert set(names["qwen"]) == {"attn.qkv", "attn.out", "mlp.up", "mlp.gate", "mlp.down"}


def test_targets_may_be_single_weights_of_a_family():
    found = {}
    for name in registry.FAMILIES:
        toy = next(one for one in smoke.RANDOM_MODELS.values() if one.family == name)
        model = decoder.abstract_decoder(toy)
        found[name] = {weight.split(".")[1] for weight in lora.target_weights(model, adapted_models.BOTH)}
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
    adapters = nnx.eval_shape(
        lambda: lora.Adapters(backbone, adapted_models.SETTINGS, seed=0, param_dtype="bfloat16")
    )
    weights = lora.target_weights(backbone, adapted_models.BOTH)
    assert set(weights) == set(adapters.names)
    total = 0
    for name, weight in weights.items():
        metadata, adapter = weight.get_metadata(), adapters[name]
        sizes = dict(zip(metadata["axes"], weight.shape, strict=True)) | {
            "rank": adapted_models.SETTINGS.rank
        }
        for param, inner in ((adapter.a, True), (adapter.b, False)):
            axes = param.get_metadata()["axes"]
            assert param.shape == tuple(sizes[axis] for axis in axes) and param.dtype == jnp.bfloat16
            wanted = {axis for axis in metadata["axes"][1:] if (axis in metadata["inputs"]) == inner}
            assert set(axes) == wanted | {"layers", "rank"}
            total += np.prod(param.shape)
    assert lora.num_params(backbone.config, adapted_models.SETTINGS) == total


@pytest.mark.parametrize("family", ["gpt2", "qwen"])
def test_merged_weights_compute_the_same(fixtures, family):
    model, batch = adapted_models.make_classifier(fixtures, family), adapted_models.make_batch(family)
    before = adapted_models.outputs(model, batch)
    plain = adapted_models.outputs(adapted_models.make_classifier(fixtures, family, None), batch)
    assert np.abs(before.embeddings - plain.embeddings).max() > 0.01
    lora.merge(model)
    assert model.adapters is None
    after = adapted_models.outputs(model, batch)
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
        + adapted_models.SETTINGS.alpha
        / adapted_models.SETTINGS.rank
        * jax.vmap(functools.partial(jnp.einsum, letters[family][name], precision="highest"))(*ab[name])
        for name, weight in weights.items()
    }


@pytest.mark.parametrize("family", [*map(marks.in_ci, ("gpt2", "qwen"))])
def test_gradients_are_those_of_the_summed_weights(fixtures, family):
    """dL/dA and dL/dB by `loss_and_grads` against jax.grad through W + s B A in place of W."""
    model, batch = adapted_models.make_classifier(fixtures, family), adapted_models.make_batch(family)
    computation = training_parts.make_computation("selective")
    found, metrics, _ = training_parts.gradients(model, batch, computation, trained="lora")
    assert set(found) == {"adapters", "class_head", "p_ik_head"}

    plain = adapted_models.make_classifier(fixtures, family, None)
    weights = {name: w[...] for name, w in lora.target_weights(plain.backbone, adapted_models.BOTH).items()}
    ab = {name: (model.adapters[name].a[...], model.adapters[name].b[...]) for name in weights}
    graphdef, params = nnx.split(plain)

    def loss(ab):
        state = jax.tree.map(lambda x: x, params)
        for name, value in add_products(weights, ab).items():
            part, leaf = name.split(".")
            variable = state["backbone"]["layers"][part][leaf]
            state["backbone"]["layers"][part][leaf] = variable.replace(value)
        flat = jax.tree.map(lambda x: x[0], batch)
        return computation.loss(
            adapted_models.outputs(nnx.merge(graphdef, state), batch), flat, jnp.float32(0.25)
        )[0]

    value, expected = jax.jit(jax.value_and_grad(loss))(ab)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    actual = {
        name: (found["adapters"][name.replace(".", "_")]["a"], found["adapters"][name.replace(".", "_")]["b"])
        for name in weights
    }
    assert all(np.abs(grad).max() > 1e-4 for grad in jax.tree.leaves(expected))
    training_parts.assert_trees_close(actual, jax.tree.map(np.asarray, expected), 1e-5)


# Dropout.


@pytest.mark.parametrize(("family", "dropout"), [marks.in_ci("gpt2", 0.4), marks.thorough("qwen", 0.0)])
def test_micro_batches_give_the_full_batch_gradient(fixtures, family, dropout):
    """With dropout too: a token's mask is the same in whichever micro-batch and row it lies, in both passes."""
    model = adapted_models.make_classifier(
        fixtures, family, dataclasses.replace(adapted_models.DROPPING, dropout=dropout)
    )
    computation = training_parts.make_computation("selective")
    run = functools.partial(training_parts.gradients, model, computation=computation, trained="lora")
    expected, metrics, _ = run(adapted_models.make_batch(family))
    actual, micro_metrics, _ = run(adapted_models.make_batch(family, num_micro=3))
    training_parts.assert_trees_close(actual, expected, 1e-5)
    assert micro_metrics == pytest.approx(metrics, rel=1e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.ci
def test_dropout_depends_on_seed_and_step_and_is_not_there_in_scoring(fixtures):
    batch = jax.tree.map(lambda x: jnp.asarray(x[0]), adapted_models.make_batch("gpt2"))

    def embeddings(seed, step_number, dropout=0.4):
        settings = dataclasses.replace(adapted_models.DROPPING, dropout=dropout)
        model = adapted_models.make_classifier(fixtures, "gpt2", settings, seed=seed)
        for name in model.adapters.names:  # A as it is with seed 7, to see the dropout alone
            model.adapters[name].a[...] = make_a[name]
        return np.asarray(step.classify(model, batch, jnp.int32(step_number)).embeddings)

    first = adapted_models.make_classifier(fixtures, "gpt2", adapted_models.DROPPING).adapters
    make_a = {name: first[name].a[...] for name in first.names}
    base = embeddings(7, 3)
    np.testing.assert_array_equal(embeddings(7, 3), base)
    scored = embeddings(7, 3, dropout=0.0)
    for other in (embeddings(8, 3), embeddings(7, 4), scored):
        assert np.abs(other - base).max() > 1e-3
    model = adapted_models.make_classifier(fixtures, "gpt2", adapted_models.DROPPING)
    places = (batch.row, batch.last)
    found = model(batch.tokens, batch.segment_ids, batch.positions, *places, reads=batch.reads)
    np.testing.assert_array_equal(found.embeddings, scored)


def test_masks_keep_the_mean_and_differ_between_tokens_and_layers(fixtures):
    adapter = adapted_models.make_classifier(fixtures, "gpt2", adapted_models.DROPPING).adapters["mlp.down"]
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


# Keys, sizes and files.


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
        "lora__targets": adapted_models.BOTH,
        "seed__init": 9,
    }
    for trained in ("all", "heads"):
        plain = training_stage(training__trained=trained)
        for key, value in other.items():
            assert training_stage(training__trained=trained, **{key: value}).key == plain.key
    keys = {training_stage(training__trained="lora", **{key: value}).key for key, value in other.items()}
    keys |= {training_stage(training__trained=trained).key for trained in ("all", "heads", "lora")}
    assert len(keys) == len(other) + 3
    swapped = training_stage(training__trained="lora", lora__targets=adapted_models.BOTH[::-1])
    assert swapped.key == training_stage(training__trained="lora", lora__targets=adapted_models.BOTH).key


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
        checks.validate(config_lib.normalize(config))
    assert "\n" not in str(info.value)


def test_targets_of_the_command_line_are_taken_apart():
    config = config_lib.default_config()
    config.lora.targets = ("attention,mlp",)
    assert config_lib.normalize(config).lora.targets == adapted_models.BOTH


@pytest.mark.parametrize("family", ["gpt2", "qwen"])
def test_files_of_adapters(fixtures, tmp_path, family):
    model, config = adapted_models.make_classifier(fixtures, family), make_parity.CONFIGS[family]
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
    weight = lora.target_weights(model.backbone, adapted_models.BOTH)["attn.qkv"]
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

    model, config = adapted_models.make_classifier(fixtures, "gpt2"), make_parity.GPT2_CONFIG
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
