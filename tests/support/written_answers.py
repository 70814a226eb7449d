"""Language models with adapters, and prompts with the answers that they are trained on."""

import jax
import jax.numpy as jnp
import numpy as np

from selw2s_jax.data import batches
from selw2s_jax.hf import loader
from selw2s_jax.models import language_model, lora

FLOAT32 = {"param_dtype": "float32", "compute_dtype": "float32"}
BATCH_SIZE = 12


def make_model(folder, adapters: lora.Settings | None = None, *, seed=7, fresh=False, **options):
    """The model of a folder, with adapters that are not zero unless fresh."""
    backbone = loader.load_decoder(folder, lm_head=True, **FLOAT32 | options)
    model = language_model.LanguageModel(backbone, adapters=adapters, seed=seed, param_dtype="float32")
    rng = np.random.default_rng(11)
    for name in () if adapters is None or fresh else model.adapters.names:
        b = model.adapters[name].b
        b[...] = jnp.asarray(0.3 * rng.standard_normal(b.shape), jnp.float32)
    return model


def make_examples(config, num: int = 37, *, seed: int = 23) -> batches.ExampleSet:
    """Of odd lengths up to the context; a third of the weights are 0, the others between."""
    rng = np.random.default_rng(seed)
    prompts, answers = [], []
    for _ in range(num):
        length = rng.integers(2, config.max_seq_len + 1)
        ids = rng.integers(0, config.vocab_size, length, dtype=np.int32)
        cut = rng.integers(max(length - 7, 1), length)
        prompts.append(ids[:cut])
        answers.append(ids[cut:])
    weights = np.where(rng.random(num) < 1 / 3, 0.0, rng.random(num)).astype(np.float32)
    return batches.completion_examples([f"q{i}" for i in range(num)], prompts, answers, weights)


def make_data(config, examples=None, **options) -> batches.TrainBatches:
    examples = make_examples(config) if examples is None else examples
    options = {"num_steps": 3, "seed": 1} | options
    return batches.TrainBatches({batches.TASK: examples}, {batches.TASK: BATCH_SIZE}, **options)


def plain_loss(model, examples: batches.ExampleSet, indices) -> jax.Array:
    """Eq. 5 of arXiv 2406.19032, as it is written there: each example in a row of its own, all logits at once."""
    shape = (len(indices), model.config.max_seq_len)
    tokens, is_answer = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for row, index in enumerate(indices):
        length, count = len(examples.tokens[index]), int(examples.columns["answer_tokens"][index])
        tokens[row, :length], is_answer[row, length - count : length] = examples.tokens[index], True
    log_probs = jax.nn.log_softmax(model.lm_logits(model.hidden_states(tokens)), axis=-1)
    of_tokens = jnp.take_along_axis(log_probs[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
    means = jnp.sum(jnp.where(is_answer[:, 1:], -of_tokens, 0.0), axis=1) / is_answer.sum(axis=1)
    return jnp.sum(examples.columns["example_weight"][indices] * means) / len(indices)
