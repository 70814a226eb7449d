"""Scores of many prompts that begin alike: what they have in common, as the shots of a task, is computed once.

A language model reads the common beginning into a KV cache; the rest of each prompt is packed into rows like any
examples, and attends to the cache. The scores are those of whole prompts, to rounding.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.data import batches, packing
from selw2s_jax.inference import classify, partials
from selw2s_jax.models import decoder as decoder_lib
from selw2s_jax.models import kv_cache

# Fewer prompts, or a shorter beginning, are not worth a computation of their own.
MIN_MEMBERS, MIN_TOKENS = 8, 64
_SLOTS_MULTIPLE = 64  # of a cache, so that few shapes are compiled


class Group(NamedTuple):
    """Prompts that are scored together.

    Attributes:
        members: `[n]` indices of prompts.
        length: tokens of their common beginning, 0 where it is not used.
    """

    members: np.ndarray
    length: int


def common_length(tokens: Sequence[np.ndarray], keep: Sequence[int] | None = None) -> int:
    """How many tokens all sequences begin with in common, but for the last `keep` of each (default 1)."""
    first = tokens[0]
    keep = [1] * len(tokens) if keep is None else keep
    length = min(len(ids) - own for ids, own in zip(tokens, keep, strict=True))
    for ids in tokens[1:]:
        differs = np.flatnonzero(ids[:length] != first[:length])
        length = int(differs[0]) if len(differs) else length
    return length


def group(
    tokens: Sequence[np.ndarray],
    keep: Sequence[int] | None = None,
    *,
    min_members: int = MIN_MEMBERS,
    min_tokens: int = MIN_TOKENS,
) -> list[Group]:
    """Which prompts share a beginning; the last group is the rest of them, if any, with length 0.

    Prompts of a task begin alike but for those that lost shots, which differ from the others behind the
    instruction: either all are one group, or groups are told apart by the tokens behind what all have in common.

    Args:
        tokens: ids of each prompt.
        keep: last tokens of each that are no part of a common beginning, default 1.
    """
    if not len(tokens):
        return []
    keep = [1] * len(tokens) if keep is None else keep
    everyone = Group(np.arange(len(tokens)), common_length(tokens, keep))
    by_window: dict[bytes, list[int]] = {}
    for i, ids in enumerate(tokens):
        window = np.asarray(ids[everyone.length : everyone.length + min_tokens // 2], np.int32)
        by_window.setdefault(window.tobytes(), []).append(i)
    parts = [
        Group(np.array(members), common_length([tokens[i] for i in members], [keep[i] for i in members]))
        for members in by_window.values()
        if len(members) >= min_members
    ]

    def saved(groups: Sequence[Group]) -> int:
        return sum((len(g.members) - 1) * g.length for g in groups)

    found = parts if saved(parts) > saved([everyone]) else [everyone]
    found = [g for g in found if len(g.members) >= min_members and g.length >= min_tokens]
    shared = {int(i) for g in found for i in g.members}
    rest = [i for i in range(len(tokens)) if i not in shared]
    return found + ([Group(np.array(rest), 0)] if rest else [])


def cache_slots(length: int) -> int:
    """Slots of a cache for so many tokens."""
    return packing.round_up(length, _SLOTS_MULTIPLE)


def prefill(
    decoder: decoder_lib.Decoder, tokens: np.ndarray, *, num_slots: int | None = None
) -> kv_cache.KVCache:
    """A cache with one sequence `[T]` in each row, a row for each data-parallel group of devices.

    Args:
        num_slots: of the cache, at least T; default T.
    """
    mesh, num_slots = decoder.mesh, num_slots or len(tokens)
    grid = np.zeros((2, sharding.num_row_groups(mesh), num_slots), np.int32)
    grid[0, :, : len(tokens)], grid[1, :, : len(tokens)] = tokens, 1
    placed = [sharding.put(x, sharding.logical_sharding(mesh, ("rows", "time"))) for x in grid]
    graphdef, params = nnx.split(decoder)
    return _prefill(graphdef, params, *placed)


def _prefill_forward(graphdef, params, tokens, segment_ids):
    model = nnx.merge(graphdef, params)
    # Keys and values are all that is wanted: of the last layer nothing else is computed, not even of the token read.
    _, (keys, values) = model.extend(tokens, segment_ids, reads=jnp.zeros_like(tokens[:, :1]))
    return kv_cache.constrain(kv_cache.of_tokens(keys, values, segment_ids.sum(axis=1)), model.mesh)


_prefill = jax.jit(_prefill_forward, static_argnums=0)


def score(
    forward: Callable[..., Any],
    static: Hashable,
    decoder: decoder_lib.Decoder,
    tokens: Sequence[np.ndarray],
    columns=(),
    *,
    keep: Sequence[int] | None = None,
    mesh: jax.sharding.Mesh,
    batch_tokens: int,
    label: str,
    partial: partials.Partial | None = None,
    shares_prefix: bool = True,
):
    """`classify.score` of a decoder, the beginnings that prompts share computed once.

    Args:
        decoder: a `decoder.Decoder`, or a `language_model.LanguageModel`.
        forward: `forward((graphdef, static), (params, cache, columns), batch) -> pytree of [E, ...]`, which gives
            the cache, or None, to the decoder, and finds an example of `batch` in `columns` by `batch.index`.
        static: hashable.
        tokens: ids of each of N prompts.
        columns: arrays `[N, ...]`.
        keep: last tokens of each prompt whose hidden states `forward` needs, default 1.
        shares_prefix: whether to; without, every prompt is read whole.

    Returns:
        The pytree with `[N, ...]` NumPy arrays.

    Raises:
        NotFiniteError: a score is no finite number (`classify.NotFiniteError`).
        Preempted: the run was told to stop.
    """
    graphdef, params = nnx.split(decoder)
    groups = group(tokens, keep) if shares_prefix else [Group(np.arange(len(tokens)), 0)]
    found = None
    for number, (members, length) in enumerate(groups):
        whole = len(groups) == 1 and length == 0
        cache, slots = None, 0
        if length:
            slots = cache_slots(length)
            cache = prefill(decoder, tokens[members[0]][:length], num_slots=slots)
        try:
            scores = classify.score(
                forward,
                (graphdef, static),
                (params, cache, jax.tree.map(lambda column, m=members: column[m], columns)),
                [tokens[i][length:] for i in members],
                mesh=mesh,
                batch_tokens=batch_tokens,
                past_slots=slots,
                keep=None if keep is None else [keep[i] for i in members],
                label=label if len(groups) == 1 else f"{label} ({number + 1} of {len(groups)})",
                partial=partial
                if partial is None or whole
                else partial.part(f"{number + 1}_of_{len(groups)}"),
            )
        except classify.NotFiniteError as error:
            raise classify.NotFiniteError(int(members[error.index])) from error
        if found is None:
            found = jax.tree.map(lambda part: np.empty((len(tokens), *part.shape[1:]), part.dtype), scores)
        jax.tree.map(lambda whole, part, m=members: whole.__setitem__(m, part), found, scores)
    return found


def embed(
    decoder: decoder_lib.Decoder,
    tokens: Sequence[np.ndarray],
    *,
    batch_tokens: int,
    label: str,
    partial: partials.Partial | None = None,
) -> np.ndarray:
    """`classify.embed`, the beginnings that texts share computed once.

    Returns:
        What heads read of each example, `[N, D]` float32.
    """
    return score(
        _embed_forward,
        None,
        decoder,
        tokens,
        mesh=decoder.mesh,
        batch_tokens=batch_tokens,
        label=label,
        partial=partial,
    )


def _embed_forward(static, arrays, batch: batches.Batch):
    (graphdef, _), (params, cache, _) = static, arrays
    return classify.embed_forward(graphdef, params, batch, cache)
