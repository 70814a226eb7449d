"""What the parity tests share: this project's outputs under the names that make_parity.run_torch uses."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from selw2s_jax.hf import loader
from selw2s_jax.models import decoder, heads, key_tables, registry


def gradients_by_key(config, gradients) -> dict[str, np.ndarray]:
    """The gradients of a decoder in the shapes and under the keys of its checkpoint."""
    params = decoder.flatten_params(gradients)
    table = registry.get_family(config.family).key_table
    result = {}
    for tensor in key_tables.tensors(table, {path: variable.shape for path, variable in params.items()}):
        value = np.asarray(params[tensor.param].get_value())  # not taken apart by a program for each shape
        result[tensor.key] = (value if tensor.layer is None else value[tensor.layer]).reshape(tensor.shape)
    return result


def run_jax(folder, inputs: dict, **options) -> dict[str, np.ndarray]:
    """Hidden states, logits and the gradients of a class-head loss, by key of the checkpoint file."""
    options = {"param_dtype": "float32", "compute_dtype": "float32"} | options
    model = loader.load_decoder(folder, lm_head=True, **options)
    classifier = heads.Classifier(model, p_ik_head=True)
    classifier.class_head[...] = jnp.asarray(inputs["class_head"])
    graphdef, state = nnx.split(classifier)

    def loss_fn(state):
        outputs = nnx.merge(graphdef, state)(
            inputs["tokens"], None, None, np.arange(len(inputs["tokens"])), inputs["last"]
        )
        log_probs = jax.nn.log_softmax(outputs.class_logits)
        return -jnp.mean(jnp.take_along_axis(log_probs, jnp.asarray(inputs["labels"])[:, None], axis=1))

    @jax.jit  # one program: each is compiled for this family alone
    def run(state):
        decoder_of_state = nnx.merge(graphdef, state).backbone
        hidden = decoder_of_state.hidden_states(jnp.asarray(inputs["tokens"]))
        return hidden, decoder_of_state.lm_logits(hidden), *jax.value_and_grad(loss_fn)(state)

    hidden, logits, loss, gradients = run(state)
    by_key = gradients_by_key(model.config, gradients["backbone"])
    return {
        "hidden": np.asarray(hidden),
        "logits": np.asarray(logits),
        "loss": np.asarray(loss),
        "grad/class_head": np.asarray(gradients["class_head"].get_value()),
        **{f"grad/{key}": value for key, value in by_key.items()},
    }


def assert_close(actual: dict, expected: dict, tolerance: float = 1e-4) -> None:
    """Every expected array is met within `tolerance` of its own largest magnitude."""
    for name, want in expected.items():
        scale = np.max(np.abs(want))
        error = np.max(np.abs(actual[name] - want))
        assert actual[name].shape == want.shape, name
        assert error <= tolerance * scale, f"{name}: error {error} at scale {scale}"
