"""Log-probabilities of any candidates behind a prompt, as the texts of a question's choices."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.inference import classify, fewshot, partials, prefix
from selw2s_jax.models import layers


def begin_length(own: Sequence[int], whole: Sequence[Sequence[int]]) -> int:
    """How many tokens a prompt and the texts that go on behind it begin with in common.

    A tokenizer may join the end of a prompt with what follows; such a token belongs to what follows.

    Args:
        own: token ids of the prompt.
        whole: token ids of the prompt with what follows, of each text.
    """
    own, shared = np.asarray(own), len(own)
    for ids in whole:
        shared = min(shared, len(ids))
        differs = np.flatnonzero(np.asarray(ids[:shared]) != own[:shared])
        shared = int(differs[0]) if len(differs) else shared
    return shared


def encode(
    tokenizer, prompt: str, candidates: Sequence[str], *, name: str = "a question"
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Token ids of a prompt up to where its candidates differ from it, and of each candidate behind that.

    Args:
        candidates: continuations of the prompt, each with its leading space if it has one.
        name: of the question, for errors.

    Raises:
        UserError: a candidate has no token, or there is none, or the prompt has none.
    """
    (own,), (found,) = encode_batch(tokenizer, [prompt], [candidates], [name])
    return own, found


def encode_batch(
    tokenizer, prompts: Sequence[str], candidates: Sequence[Sequence[str]], names: Sequence[str]
) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """`encode` of many prompts, each with its own candidates and name: the prompts, and the candidates of each."""
    texts = [prompt + text for prompt, own in zip(prompts, candidates, strict=True) for text in own]
    every, wholes = iter(tokenizer.encode_batch(texts)), []
    for own in candidates:
        wholes.append([next(every) for _ in own])
    begins, found = [], []
    for ids, whole, texts, name in zip(
        tokenizer.encode_batch(prompts), wholes, candidates, names, strict=True
    ):
        if not texts:
            raise UserError(f"{name} has no candidates to score")
        shared = begin_length(ids, whole)
        for text, of_one in zip(texts, whole, strict=True):
            if len(of_one) <= shared or not text:
                raise UserError(
                    f"the candidate {text!r} of {name} has no tokens: candidates are text behind the prompt"
                )
        if not shared:
            raise UserError(f"the prompt of {name} has no tokens: give it text")
        begins.append(np.array(ids[:shared], np.int32))
        found.append([np.array(of_one[shared:], np.int32) for of_one in whole])
    return begins, found


def log_probs(
    decoder,
    tokens: Sequence[np.ndarray],
    candidates: Sequence[Sequence[np.ndarray]],
    example_ids: Sequence[str],
    *,
    mesh: jax.sharding.Mesh,
    batch_tokens: int,
    label: str,
    partial: partials.Partial | None = None,
) -> list[np.ndarray]:
    """Log-probability of each candidate after its prompt, the sum over its tokens.

    Args:
        decoder: a `decoder.Decoder` with its language-model head, or a `language_model.LanguageModel`.
        tokens: ids of each of N prompts.
        candidates: ids of the candidates of each, as `encode` gives them.
        example_ids: of the prompts.
        partial: what is done already, and where it is kept.

    Returns:
        For each prompt one float32 by candidate, natural logarithm.

    Raises:
        UserError: a candidate has no tokens, a prompt and candidate exceed the context, the model has no
            language-model head, or a log-probability is no finite number.
        Preempted: the run was told to stop.
    """
    fewshot.require_lm_head(decoder)
    max_length = decoder.config.max_seq_len
    flat, counts, names = [], [], []
    for ids, own, name in zip(tokens, candidates, example_ids, strict=True):
        for candidate in own:
            if not len(candidate):
                raise UserError(f"a candidate of {name} has no tokens: candidates are text behind the prompt")
            # The last token is only predicted, but read too: it is at hand where the batch says an example ends.
            flat.append(np.concatenate([ids, candidate]).astype(np.int32))
            counts.append(len(candidate))
            names.append(name)
    fewshot.check_fits(flat, names, max_length)
    with classify.naming(f"{label}: the log-probabilities", names, "use other weights, or float32"):
        found = prefix.score(
            forward,
            max(counts),
            decoder,
            flat,
            np.array(counts, np.int32),
            keep=np.array(counts, np.int32) + 1,
            mesh=mesh,
            batch_tokens=batch_tokens,
            label=label,
            partial=partial,
        )
    return np.split(found, np.cumsum([len(own) for own in candidates])[:-1])


def forward(static, arrays, batch: batches.Batch):
    """What `log_probs` computes of a batch, as `prefix.score` calls it: [E] float32."""
    (graphdef, most), (params, cache, counts) = static, arrays
    model = nnx.merge(graphdef, params)
    tokens, row, last = batch.tokens[0], batch.row[0], batch.last[0]
    grids = (tokens, batch.segment_ids[0], batch.positions[0])
    hidden = model.hidden_states(*grids, reads=batch.reads[0], cache=cache)
    place = layers.place_read(batch.reads[0], row, last)  # those before are of the tokens before
    count = counts[batch.index[0]]

    def add(total, back):
        """The log-probability of the token `back` before the last; one token at a time, for its [E, V] logits."""
        column = jnp.maximum(last - back, 1)
        before = jnp.maximum(place - back - 1, 0)
        all_log_probs = jax.nn.log_softmax(model.lm_logits(hidden[row, before]), axis=-1)
        own = jnp.take_along_axis(all_log_probs, tokens[row, column][:, None], axis=-1)[:, 0]
        return total + jnp.where(back < count, own, 0.0), None

    total, _ = jax.lax.scan(add, jnp.zeros(last.shape, jnp.float32), jnp.arange(most))
    return total
