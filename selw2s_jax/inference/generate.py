"""Generation: a language model goes on with prompts, row by row of a KV cache, in one compiled loop.

A fixed number of rows is decoded in chunks of steps on the devices. Between chunks the host looks for stop strings,
takes the rows that are finished and fills them with the next prompts; what all prompts begin with is computed once.
The randomness of a token is a function of the seed, the example, the sample and the token's number, and of nothing
else: neither of the rows, nor of the order of the prompts.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.errors import UserError
from selw2s_jax.inference import classify, fewshot, prefix
from selw2s_jax.models import kv_cache
from selw2s_jax.runtime import preemption, progress

_KEY_TYPE = "threefry2x32"  # as written down in a row's two words, whatever JAX's default is
_NO_TOKEN = -1  # of a distribution that is none
_SHORTEST_PROMPT = 32  # slots for a prompt: this, or this times a power of two


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is generated.

    Attributes:
        max_new_tokens: of a completion; the context may end it sooner.
        temperature: of the next-token distribution; 0 takes the likeliest token.
        num_samples: completions of each prompt.
        top_p: only the likeliest tokens that have this probability together (nucleus sampling, Holtzman et al.
            2019, arXiv 1904.09751).
        stop: a completion ends before the first of these strings.
        eos_ids: tokens that end a completion.
        seed: of the samples.
    """

    max_new_tokens: int
    temperature: float
    num_samples: int = 1
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    eos_ids: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self):
        for name in ("max_new_tokens", "num_samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: give 1 or more")
        if not self.temperature >= 0:
            raise UserError(f"temperature is {self.temperature}: give 0 (the likeliest token) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}: give more than 0 and at most 1 (all tokens)")
        if "" in self.stop:
            raise UserError("a stop string is empty: give text, or none")


class Completion(NamedTuple):
    """What a prompt was answered.

    Attributes:
        text: without the stop string.
        tokens: `[n]` int32, with the one that ended it, if any.
        finish: why it ended, "eos", "stop" or "length".
    """

    text: str
    tokens: np.ndarray
    finish: str


class _Request(NamedTuple):
    example: int
    tokens: np.ndarray  # of the prompt, without what all prompts begin with
    key: np.ndarray  # [2] uint32
    limit: int  # most tokens to generate


class _Rows(NamedTuple):
    """The rows under way, on the devices. A row that is done is free."""

    cache: kv_cache.KVCache  # without the last token
    key: jax.Array  # [R, 2] uint32
    limit: jax.Array  # [R] int32
    tokens: jax.Array  # [R, max_new_tokens] int32, generated
    count: jax.Array  # [R] int32, of them
    is_done: jax.Array  # [R] bool


class _Refill(NamedTuple):
    """Prompts [K, T] for free rows of all R, K / G of them for each of G groups of devices."""

    tokens: np.ndarray  # [K, T] int32
    segment_ids: np.ndarray  # [K, T] int32, 0 where padded
    key: np.ndarray  # [K, 2] uint32
    limit: np.ndarray  # [K] int32
    source: np.ndarray  # [R] int32, which prompt of its group a row takes, -1 for none


def generate(
    decoder,
    tokenizer,
    prompts: Sequence[np.ndarray],
    example_ids: Sequence[str],
    settings: Settings,
    *,
    batch_tokens: int,
    label: str,
    steps_per_chunk: int = 32,
) -> list[list[Completion]]:
    """Completions of every prompt.

    Args:
        decoder: a `decoder.Decoder` with its language-model head, or a `language_model.LanguageModel`.
        tokenizer: a `hf.tokenizers.Tokenizer`.
        prompts: token ids of each.
        example_ids: their names; samples of an example are a function of it.
        batch_tokens: token slots of the KV cache, about: longer completions, fewer rows.
        label: name in progress lines.
        steps_per_chunk: tokens between two looks of the host.

    Returns:
        `num_samples` completions of each prompt.

    Raises:
        UserError: a prompt has no token, or leaves no room in the context, or the model has no language-model head.
        NotFiniteError: the model gives no finite numbers for a prompt (`classify.NotFiniteError`).
        Preempted: the run was told to stop.
    """
    fewshot.require_lm_head(decoder)
    fewshot.check_fits(prompts, example_ids, decoder.config.max_seq_len - 1)
    if empty := [name for ids, name in zip(prompts, example_ids, strict=True) if not len(ids)]:
        raise UserError(f"the prompt of {empty[0]} has no tokens: give it text")
    if not len(prompts):
        return []
    shared = prefix.common_length(prompts)
    if shared < prefix.MIN_TOKENS or len(prompts) < prefix.MIN_MEMBERS:
        shared = 0
    requests = _make_requests(decoder, prompts, example_ids, settings, shared)
    engine = _Engine(decoder, settings, requests, prompts[0][:shared], batch_tokens, steps_per_chunk)
    found: list[list[Completion]] = [[] for _ in prompts]
    by_request = {}
    finished = engine.run(tokenizer, label)
    for number, completion in progress.track(finished, total=len(requests), label=label, unit="completions"):
        by_request[number] = completion
    for number, request in enumerate(requests):
        found[request.example].append(by_request[number])
    copies = settings.num_samples if settings.temperature == 0 else 1
    return [own * copies for own in found]


def _make_requests(decoder, prompts, example_ids, settings, shared) -> list[_Request]:
    """Every sample of every prompt, long prompts first; of the likeliest tokens there is but one sample."""
    requests = []
    for example, (ids, name) in enumerate(zip(prompts, example_ids, strict=True)):
        limit = min(settings.max_new_tokens, decoder.config.max_seq_len - len(ids))
        for sample in range(settings.num_samples if settings.temperature else 1):
            key = _sample_key(settings.seed, name, sample)
            requests.append(_Request(example, np.asarray(ids[shared:], np.int32), key, limit))
    return sorted(requests, key=lambda request: -len(request.tokens))


def _sample_key(seed: int, example_id: str, sample: int) -> np.ndarray:
    digest = hashlib.sha256(f"{seed}/generation/{sample}/{example_id}".encode()).digest()
    return np.frombuffer(digest[:8], "<u4").astype(np.uint32)


class _Engine:
    """The rows of one call of `generate`, and which request each of them holds."""

    def __init__(self, decoder, settings, requests, shared_tokens, batch_tokens, steps_per_chunk):
        config, mesh = decoder.config, decoder.mesh
        self._mesh, self._settings, self._requests = mesh, settings, requests
        graphdef, self._params = nnx.split(decoder)
        # The last token of a completion is never read.
        longest = len(shared_tokens) + max(len(r.tokens) + r.limit - 1 for r in requests)
        self._num_slots = min(-(-longest // 64) * 64, config.max_seq_len)
        self._longest_prompt = self._num_slots - len(shared_tokens)
        self._num_groups = sharding.num_row_groups(mesh)
        num_rows = min(max(batch_tokens // self._num_slots, 1), len(requests))
        self._group_rows = -(-num_rows // self._num_groups)
        self._group_refill = -(-self._group_rows // 4)
        self._prefix = prefix.prefill(decoder, shared_tokens) if len(shared_tokens) else None
        in_loop = dataclasses.replace(settings, num_samples=1, stop=(), seed=0)  # what of them is compiled
        self._compiled = _Compiled(graphdef, in_loop, steps_per_chunk)
        self._num_rows = self._group_rows * self._num_groups
        sizes = (self._num_rows, self._num_slots, settings.max_new_tokens)
        self._rows = _empty_rows(config, decoder.settings, *sizes)

    def run(self, tokenizer, label: str) -> Iterator[tuple[int, Completion]]:
        """Requests by number as they are finished."""
        waiting = list(range(len(self._requests)))[::-1]
        held: dict[int, int] = {}
        while waiting or held:
            preemption.check(label)
            while waiting and len(held) < self._num_rows:
                self._refill(waiting, held)
            self._rows, view = _decode(self._compiled, self._params, self._rows)
            tokens, count, is_done = jax.device_get(view)
            stopped = []
            for row, number in list(held.items()):
                own = tokens[row, : count[row]]
                if (own == _NO_TOKEN).any():
                    raise classify.NotFiniteError(self._requests[number].example)
                if completion := self._complete(tokenizer, own, bool(is_done[row])):
                    yield number, completion
                    del held[row]
                    stopped += [row] * (not is_done[row])
            if stopped:
                self._free(stopped)

    def _complete(self, tokenizer, tokens: np.ndarray, is_done: bool) -> Completion | None:
        """The completion that a row's tokens are, None while they may go on."""
        settings = self._settings
        has_eos = int(tokens[-1]) in settings.eos_ids
        text = tokenizer.decode((tokens[:-1] if has_eos else tokens).tolist())
        if any(stop in text for stop in settings.stop):
            # The first token that completes a stop string, so that the end of the chunk has no say.
            for length in range(1, len(tokens) + 1):
                part = tokenizer.decode(tokens[:length].tolist())
                if starts := [part.find(stop) for stop in settings.stop if stop in part]:
                    return Completion(part[: min(starts)], tokens[:length].copy(), "stop")
        if is_done:
            return Completion(text, tokens.copy(), "eos" if has_eos else "length")
        return None

    def _free(self, rows: list[int]) -> None:
        is_done = np.zeros(self._num_rows, bool)
        is_done[rows] = True
        placed = sharding.put(is_done, sharding.logical_sharding(self._mesh, ("rows",)))
        self._rows = self._rows._replace(is_done=_either(self._rows.is_done, placed))

    def _refill(self, waiting: list[int], held: dict[int, int]) -> None:
        """Puts requests into free rows, at most so many of each group of devices."""
        size, per_group = self._num_groups * self._group_refill, self._group_refill
        chosen: list[tuple[int, int]] = []  # (place in the refill, row)
        for group in range(self._num_groups):
            rows = range(group * self._group_rows, (group + 1) * self._group_rows)
            free = [row for row in rows if row not in held][:per_group]
            chosen += [(group * per_group + i, row) for i, row in enumerate(free)]
        chosen = chosen[: len(waiting)]
        numbers = [waiting.pop() for _ in chosen]
        longest = max(len(self._requests[number].tokens) for number in numbers)
        length = _SHORTEST_PROMPT
        while length < longest:
            length *= 2
        length = min(length, self._longest_prompt)
        refill = _Refill(
            *np.zeros((2, size, length), np.int32),
            np.zeros((size, 2), np.uint32),
            np.zeros(size, np.int32),
            np.full(self._num_rows, -1, np.int32),
        )
        for (place, row), number in zip(chosen, numbers, strict=True):
            request = self._requests[number]
            refill.tokens[place, : len(request.tokens)] = request.tokens
            refill.segment_ids[place, : len(request.tokens)] = 1
            refill.key[place], refill.limit[place] = request.key, request.limit
            refill.source[row] = place % self._group_refill
            held[row] = number
        axes = ("rows", "time")
        placed = _Refill(
            *(sharding.put(x, sharding.logical_sharding(self._mesh, axes[: x.ndim])) for x in refill)
        )
        self._rows = _prefill(self._compiled, self._params, self._prefix, self._rows, placed)


class _Compiled(NamedTuple):
    """What the compiled functions are functions of; hashable."""

    graphdef: nnx.GraphDef
    settings: Settings
    steps_per_chunk: int


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _empty_rows(config, settings, num_rows, num_slots, max_new_tokens) -> _Rows:
    whole = functools.partial(jnp.zeros, dtype=jnp.int32)
    return _constrain(
        _Rows(
            kv_cache.empty(config, settings, num_rows, num_slots),
            jnp.zeros((num_rows, 2), jnp.uint32),
            whole(num_rows),
            whole((num_rows, max_new_tokens)),
            whole(num_rows),
            jnp.ones(num_rows, bool),
        ),
        settings.mesh,
    )


def _constrain(rows: _Rows, mesh) -> _Rows:
    axes = ("rows", "time")
    others = {
        name: sharding.constrain(value, axes[: value.ndim], mesh)
        for name, value in rows._asdict().items()
        if name != "cache"
    }
    return _Rows(cache=kv_cache.constrain(rows.cache, mesh), **others)


@functools.partial(jax.jit, donate_argnums=0)
def _either(left, right):
    return left | right


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def _prefill(compiled: _Compiled, params, past: kv_cache.KVCache | None, rows: _Rows, refill: _Refill):
    """Reads prompts, writes them into their rows' cache, and generates the first token of each."""
    model = nnx.merge(compiled.graphdef, params)
    size = len(refill.limit)
    own_length = refill.segment_ids.sum(axis=1)
    last = jnp.maximum(own_length - 1, 0)[:, None]
    hidden, new = model.extend(refill.tokens, refill.segment_ids, reads=last, cache=past)
    length = own_length
    if past is not None:
        new = [
            jnp.concatenate([kv_cache.for_rows(old, size, axis=1), x], axis=2)
            for old, x in zip((past.keys, past.values), new, strict=True)
        ]
        length = own_length + kv_cache.for_rows(past.length, size, axis=0)
    first = _next_tokens(compiled, model, hidden[:, 0], refill.key, jnp.zeros(size, jnp.int32))
    tokens = jnp.zeros((size, rows.tokens.shape[1]), jnp.int32).at[:, 0].set(first)
    is_done = _is_eos(compiled, first) | (refill.limit <= 1)
    num_groups = sharding.num_row_groups(model.mesh)
    place = functools.partial(_place_rows, refill.source, num_groups)
    cache = kv_cache.KVCache(
        *(place(old, x, axis=1) for old, x in zip((rows.cache.keys, rows.cache.values), new, strict=True)),
        place(rows.cache.length, length),
    )
    others = (refill.key, refill.limit, tokens, jnp.ones(size, jnp.int32), is_done)
    placed = (place(old, x) for old, x in zip(rows[1:], others, strict=True))
    return _constrain(_Rows(cache, *placed), model.mesh)


def _place_rows(source, num_groups, whole, new, axis=0):
    """`whole` with rows, along `axis`, replaced by rows of `new`, in each group of devices by itself.

    Args:
        source: [R] the place of a row's content among those of `new` in its group, -1 where it stays.
    """

    def split(x, axis):
        return x.reshape(*x.shape[:axis], num_groups, -1, *x.shape[axis + 1 :])

    take = functools.partial(jnp.take, axis=axis, mode="clip")
    rows = jax.vmap(take, in_axes=(axis, 0), out_axes=axis)(split(new, axis), split(source, 0))
    slots = (*[slice(None)] * (axis + 1), *[slice(size) for size in new.shape[axis + 1 : axis + 2]])
    old = whole[slots]
    is_new = (source >= 0).reshape(-1, *(1,) * (old.ndim - axis - 1))
    return whole.at[slots].set(jnp.where(is_new, rows.reshape(old.shape), old))


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _decode(compiled: _Compiled, params, rows: _Rows):
    """A chunk of steps, fewer where all rows are done; the rows, and what the host looks at."""
    model = nnx.merge(compiled.graphdef, params)

    def goes_on(carry):
        step, rows = carry
        return (step < compiled.steps_per_chunk) & ~jnp.all(rows.is_done)

    def run_step(carry):
        step, rows = carry
        is_active = ~rows.is_done
        index = jnp.maximum(rows.count - 1, 0)[:, None]
        fed = jnp.take_along_axis(rows.tokens, index, axis=1)
        hidden, new = model.extend(fed, cache=rows.cache)
        cache = kv_cache.append(rows.cache, *new, is_active.astype(jnp.int32))
        found = _next_tokens(compiled, model, hidden[:, 0], rows.key, rows.count)
        is_here = (jnp.arange(rows.tokens.shape[1]) == rows.count[:, None]) & is_active[:, None]
        count = rows.count + is_active
        rows = rows._replace(
            cache=cache,
            tokens=jnp.where(is_here, found[:, None], rows.tokens),
            count=count,
            is_done=rows.is_done | _is_eos(compiled, found) | (count >= rows.limit),
        )
        return step + 1, _constrain(rows, model.mesh)

    _, rows = jax.lax.while_loop(goes_on, run_step, (0, rows))
    whole = sharding.replicated(model.mesh)
    seen = (rows.tokens, rows.count, rows.is_done)
    return rows, jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, whole), seen)


def _is_eos(compiled: _Compiled, tokens):
    return jnp.isin(tokens, jnp.array(compiled.settings.eos_ids, jnp.int32))


def _next_tokens(compiled: _Compiled, model, hidden, key, index):
    """The token [R] after hidden states [R, D], the `index`th [R] that rows with `key` [R, 2] generate.

    `_NO_TOKEN` where the model gives no finite numbers.
    """
    logits = sharding.constrain(model.lm_logits(hidden), ("rows", "features"), model.mesh)
    tokens = sample(logits, key, index, compiled.settings.temperature, compiled.settings.top_p)
    return jnp.where(jnp.isfinite(logits).all(axis=-1), tokens, _NO_TOKEN)


def sample(logits, key, index, temperature: float, top_p: float):
    """Draws from next-token distributions.

    Args:
        logits: [R, V] float32.
        key: [R, 2] uint32, of each row.
        index: [R] int32, which draw of its key this is.
        temperature, top_p: as in `Settings`.

    Returns:
        [R] int32.
    """
    if temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = (logits - jnp.max(logits, axis=-1, keepdims=True)) / temperature
    if top_p < 1:
        ordered = -jnp.sort(-logits, axis=-1)
        probs = jax.nn.softmax(ordered, axis=-1)
        is_kept = jnp.cumsum(probs, axis=-1) - probs < top_p  # what comes before a token is not yet enough
        least = jnp.min(jnp.where(is_kept, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)

    def draw(key, index, logits):
        return jax.random.categorical(
            jax.random.fold_in(jax.random.wrap_key_data(key, impl=_KEY_TYPE), index), logits
        )

    return jax.vmap(draw)(key, index, logits).astype(jnp.int32)
