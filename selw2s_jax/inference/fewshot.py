"""Few-shot answers of an untouched language model: the probability of `1` against `0` after `R:`."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from selw2s_jax.data import batches, keyed
from selw2s_jax.data import prompts as prompts_lib
from selw2s_jax.errors import UserError
from selw2s_jax.inference import classify


def encode_prompts(tokenizer, prompts: Sequence[str]) -> tuple[list[np.ndarray], tuple[int, int]]:
    """Token ids of prompts up to where the answer differs, and the ids of the answers ` 0` and ` 1`.

    Some tokenizers make one token of ` 1`, others two (a space, then the digit): what both answers share is
    part of the prompt.

    Raises:
        UserError: the answers differ in more than their last token.
    """
    with_one = tokenizer.encode_batch([prompt + prompts_lib.ANSWERS[1] for prompt in prompts])
    zero, one = tokenizer.encode(prompts[0] + prompts_lib.ANSWERS[0]), with_one[0]
    if len(zero) != len(one) or zero[:-1] != one[:-1] or zero[-1] == one[-1]:
        raise UserError(
            "the tokenizer does not end the answers ' 0' and ' 1' in one differing token; use the model's own tokenizer"
        )
    if any(ids[-1] != one[-1] for ids in with_one):
        raise UserError("the tokenizer encodes the answer ' 1' differently from prompt to prompt")
    return [np.array(ids[:-1], np.int32) for ids in with_one], (zero[-1], one[-1])


def fit_prompts(
    tokenizer, build_prompts: Callable[[int], Sequence[str]], *, num_shots: int, max_length: int
) -> tuple[list[np.ndarray], tuple[int, int], dict[str, int]]:
    """`encode_prompts` within a context: a prompt too long loses shots from the front, then its own beginning.

    Args:
        build_prompts: the prompts of all questions with so many shots.
        num_shots: shots of a full prompt.
        max_length: longest prompt, in tokens.

    Returns:
        Token ids, the ids of the answers, and how many prompts have `fewer_shots` and were `truncated`.
    """
    tokens, answer_ids = encode_prompts(tokenizer, build_prompts(num_shots))
    too_long = [i for i, ids in enumerate(tokens) if len(ids) > max_length]
    cut = {"fewer_shots": len(too_long) if num_shots else 0, "truncated": 0}
    for shots in reversed(range(num_shots)):
        if not too_long:
            break
        prompts = build_prompts(shots)
        shorter, _ = encode_prompts(tokenizer, [prompts[i] for i in too_long])
        for i, ids in zip(too_long, shorter, strict=True):
            tokens[i] = ids
        too_long = [i for i in too_long if len(tokens[i]) > max_length]
    cut["truncated"] = len(too_long)
    for i in too_long:
        tokens[i] = tokens[i][-max_length:]
    return tokens, answer_ids, cut


def answer_probs(
    decoder,
    tokens: Sequence[np.ndarray],
    answer_ids: tuple[int, int],
    *,
    mesh: jax.sharding.Mesh,
    batch_tokens: int,
    max_length: int,
    label: str,
    partial: classify.Partial | None = None,
) -> np.ndarray:
    """Probability of the second answer, the two answers' logits renormalised.

    Args:
        decoder: a `decoder.Decoder` with its language-model head.
        tokens: ids of each of N prompts.
        answer_ids: vocabulary ids of the answers 0 and 1.
        partial: what is done already, and where it is kept.

    Returns:
        `[N]` float32.
    """
    graphdef, params = nnx.split(decoder)
    return classify.score(
        _answer_forward,
        (graphdef, tuple(answer_ids)),
        params,
        tokens,
        mesh=mesh,
        batch_tokens=batch_tokens,
        max_length=max_length,
        label=label,
        partial=partial,
    )


def _answer_forward(static, params, batch: batches.Batch):
    graphdef, answer_ids = static
    model = nnx.merge(graphdef, params)
    hidden = model.hidden_states(batch.tokens[0], batch.segment_ids[0], batch.positions[0])
    last = hidden[batch.row[0], batch.last[0]]
    token_ids = jnp.broadcast_to(jnp.array(answer_ids, jnp.int32), (last.shape[0], len(answer_ids)))
    return jax.nn.softmax(model.answer_logits(last, token_ids), axis=-1)[:, 1]


def sampled_accuracy(
    probs: np.ndarray,
    labels: Sequence[int],
    example_ids: Sequence[str],
    *,
    seed: int,
    num_samples: int = 1,
    temperature: float = 1.0,
) -> np.ndarray:
    """P(IK) targets: the share of sampled answers that are right (Selective W2SG, Training to Predict P(IK)).

    Args:
        probs: `[N]` probability of answer 1.
        labels: `[N]` ground truth.
        example_ids: `[N]`; a sample is a function of the seed and these, not of the order.
        num_samples: answers per question; one gives hard targets.
        temperature: of the two answers' logits; 0 takes the likelier one.

    Returns:
        `[N]` float32 in [0, 1].
    """
    probs = np.asarray(probs, np.float64)
    if temperature == 0:
        answers = (probs > 0.5)[:, None]
    else:
        logits = np.log(np.clip(probs, 1e-300, 1)) - np.log(np.clip(1 - probs, 1e-300, 1))
        with np.errstate(over="ignore"):
            tempered = 1 / (1 + np.exp(-logits / temperature))
        draws = np.array(
            [
                [keyed.keyed_uniform(seed, f"answer/{s}", name) for s in range(num_samples)]
                for name in example_ids
            ]
        )
        answers = draws < tempered[:, None]
    return (answers == np.asarray(labels, bool)[:, None]).mean(axis=1).astype(np.float32)
