"""Generation: a language model goes on with prompts, row by row of a KV cache, in one compiled loop.

A fixed number of rows is decoded in chunks of steps on the devices. Between chunks the host looks for stop strings,
takes the rows that are finished and fills them with the next prompts, which are read packed into one row of tokens.
Computed once is what all prompts begin with, what the permutations of one question begin with, and a prompt of which
there are many samples (`inference.request_order`).

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
from selw2s_jax.inference import classify, fewshot, packed_prompts, prefix, request_order
from selw2s_jax.models import kv_cache, layers
from selw2s_jax.runtime import preemption, progress

_KEY_TYPE = "threefry2x32"  # as written down in a row's two words, whatever JAX's default is
_NO_TOKEN = -1  # of a distribution that is none
_FREE_BEFORE_REFILL = 4  # one row of so many is free when rows are filled again
_STEPS_PER_CHUNK = 32  # of rows that end by themselves
_STEPS_PER_LOOK = 8  # where the host looks for stop strings


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


class _Rows(NamedTuple):
    """The rows under way, on the devices. A row that is done is free."""

    cache: kv_cache.KVCache  # without the last token
    key: jax.Array  # [R, 2] uint32
    limit: jax.Array  # [R] int32
    tokens: jax.Array  # [R, max_new_tokens] int32, generated
    count: jax.Array  # [R] int32, of them
    is_done: jax.Array  # [R] bool


class _Refill(NamedTuple):
    """Prompts packed into G rows, one for each group of devices, and what each of all R rows takes of its group's.

    A prompt is a stem, which others may go on from too, and what is behind.
    """

    tokens: np.ndarray  # [G, T] int32
    segment_ids: np.ndarray  # [G, T] int32, 0 where padded
    parents: np.ndarray  # [G, T] int32, the segment of the stem; of a stem and padding their own
    positions: np.ndarray  # [G, T] int32
    stem_start: np.ndarray  # [R] int32, column of its stem
    stem: np.ndarray  # [R] int32, tokens of it
    start: np.ndarray  # [R] int32, column of what is behind
    length: np.ndarray  # [R] int32, of the prompt; 0 for a row that stays as it is
    limit: np.ndarray  # [R] int32
    key: np.ndarray  # [R, 2] uint32


class _Held:
    """A request in a row."""

    def __init__(self, number: int):
        self.number = number
        self.seen = 0  # tokens in which no stop string was found


@dataclasses.dataclass
class Work:
    """What a call of `generate` did, counted.

    Attributes:
        tokens: generated.
        row_steps: rows times steps; the first token of a completion takes none.
        prompt_tokens: read; prompt_slots: with padding.
    """

    tokens: int = 0
    row_steps: int = 0
    prompt_tokens: int = 0
    prompt_slots: int = 0


def generate(
    decoder,
    tokenizer,
    prompts: Sequence[np.ndarray],
    example_ids: Sequence[str],
    settings: Settings,
    *,
    batch_tokens: int,
    label: str,
    steps_per_chunk: int | None = None,
    work: Work | None = None,
) -> list[list[Completion]]:
    """Completions of every prompt.

    Args:
        decoder: a `decoder.Decoder` with its language-model head, or a `language_model.LanguageModel`.
        tokenizer: a `hf.tokenizers.Tokenizer`.
        prompts: token ids of each.
        example_ids: their names; samples of an example are a function of it.
        batch_tokens: token slots of the KV cache, about: longer completions, fewer rows.
        label: name in progress lines.
        steps_per_chunk: most tokens between two looks of the host; default fewer where there are stop strings.
        work: is added to.

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
    steps_per_chunk = steps_per_chunk or (_STEPS_PER_LOOK if settings.stop else _STEPS_PER_CHUNK)
    engine = _Engine(decoder, settings, requests, prompts[0][:shared], batch_tokens, steps_per_chunk)
    found: list[list[Completion]] = [[] for _ in prompts]
    by_request = {}
    finished = engine.run(tokenizer, label)
    for number, completion in progress.track(finished, total=len(requests), label=label, unit="completions"):
        by_request[number] = completion
    if work is not None:
        for name, value in dataclasses.asdict(engine.work).items():
            setattr(work, name, getattr(work, name) + value)
    for number, request in enumerate(requests):  # of an example in the order of its samples
        found[request.example].append(by_request[number])
    copies = settings.num_samples if settings.temperature == 0 else 1
    return [own * copies for own in found]


def _make_requests(decoder, prompts, example_ids, settings, shared) -> list[packed_prompts.Request]:
    """Every sample of every prompt in order; of the likeliest tokens there is but one sample."""
    requests = []
    order, stems = request_order.find([ids[shared:] for ids in prompts])
    for example, stem in zip(order, stems, strict=True):
        ids, name = prompts[example], example_ids[example]
        limit = min(settings.max_new_tokens, decoder.config.max_seq_len - len(ids))
        for sample in range(settings.num_samples if settings.temperature else 1):
            key = _sample_key(settings.seed, name, sample)
            requests.append(
                packed_prompts.Request(example, np.asarray(ids[shared:], np.int32), stem, key, limit)
            )
    return requests


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
        self._num_slots = min(prefix.cache_slots(longest), config.max_seq_len)
        self._num_groups = sharding.num_row_groups(mesh)
        num_rows = min(max(batch_tokens // self._num_slots, 1), len(requests))
        self._group_rows = -(-num_rows // self._num_groups)
        self._num_rows = self._group_rows * self._num_groups
        self._prefix = prefix.prefill(decoder, shared_tokens) if len(shared_tokens) else None
        in_loop = dataclasses.replace(settings, num_samples=1, stop=(), seed=0)  # what of them is compiled
        self._compiled = _Compiled(graphdef, in_loop, steps_per_chunk)
        sizes = (self._num_rows, self._num_slots, settings.max_new_tokens)
        # A layer's weights are copied for the products of a few rows on a CPU; elsewhere a stack is as fast.
        on_cpu = mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"
        self._layer_states = decoder.unstack() if on_cpu else None
        self._rows = _empty_rows(config, decoder.settings, *sizes)
        self.work = Work(prompt_tokens=len(shared_tokens), prompt_slots=len(shared_tokens))

    def run(self, tokenizer, label: str) -> Iterator[tuple[int, Completion]]:
        """Requests by number as they are finished."""
        waiting = list(range(len(self._requests)))[::-1]
        held: dict[int, _Held] = {}
        # A prompt more or less costs a refill little, so some rows wait for others; but not all of them.
        enough = -(-self._num_rows // _FREE_BEFORE_REFILL)
        while waiting or held:
            preemption.check(label)
            while waiting and self._num_rows - len(held) >= enough:
                self._refill(waiting, held)
            leave_at = enough if waiting else self._num_rows
            self._rows, view = _decode(
                self._compiled, self._params, self._layer_states, self._rows, np.int32(leave_at)
            )
            tokens, count, is_done, num_steps = jax.device_get(view)
            self.work.row_steps += int(num_steps) * self._num_rows
            stopped = []
            for row, own in list(held.items()):
                written = tokens[row, : count[row]]
                if (written == _NO_TOKEN).any():
                    raise classify.NotFiniteError(self._requests[own.number].example)
                if completion := self._complete(tokenizer, written, bool(is_done[row]), own.seen):
                    self.work.tokens += len(completion.tokens)
                    yield own.number, completion
                    del held[row]
                    stopped += [row] * (not is_done[row])
                own.seen = len(written)
            if stopped:
                self._free(stopped)

    def _complete(self, tokenizer, tokens: np.ndarray, is_done: bool, seen: int) -> Completion | None:
        """The completion that a row's tokens are, None while they may go on.

        Args:
            seen: how many of the tokens have no stop string.
        """
        settings = self._settings
        if not (settings.stop or is_done):
            return None
        has_eos = int(tokens[-1]) in settings.eos_ids
        text = tokenizer.decode((tokens[:-1] if has_eos else tokens).tolist())
        if any(stop in text for stop in settings.stop):
            # The first token that completes a stop string, so that the end of the chunk has no say.
            for length in range(seen + 1, len(tokens) + 1):
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

    def _refill(self, waiting: list[int], held: dict[int, _Held]) -> None:
        """Puts requests into free rows of each group of devices, as many as are read together."""
        packed = [packed_prompts.Packed() for _ in range(self._num_groups)]
        of_rows = np.zeros((5, self._num_rows), np.int32)
        key = np.zeros((self._num_rows, 2), np.uint32)
        for group, own in enumerate(packed):
            rows = range(group * self._group_rows, (group + 1) * self._group_rows)
            for row in [row for row in rows if row not in held]:
                if not waiting or not own.has_room(self._requests[waiting[-1]]):
                    break
                held[row] = _Held(waiting.pop())
                request = self._requests[held[row].number]
                stem_start, start = own.add(request)
                of_rows[:, row] = stem_start, request.stem, start, len(request.tokens), request.limit
                key[row] = request.key
        num_tokens = packed_prompts.num_slots(max(own.size for own in packed))
        grids = np.stack([own.grid(num_tokens) for own in packed], axis=1)
        self.work.prompt_tokens += sum(own.size for own in packed)
        self.work.prompt_slots += self._num_groups * num_tokens
        axes = ("rows", "time")
        placed = _Refill(
            *(
                sharding.put(x, sharding.logical_sharding(self._mesh, axes[: x.ndim]))
                for x in (*grids, *of_rows, key)
            )
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
    last = (refill.start + jnp.maximum(refill.length - refill.stem, 1) - 1).reshape(len(refill.tokens), -1)
    hidden, (keys, values) = model.extend(
        refill.tokens, refill.segment_ids, refill.positions, reads=last, cache=past, parents=refill.parents
    )
    is_new, num_groups = refill.length > 0, len(refill.tokens)
    num_shared = jnp.zeros(num_groups, jnp.int32) if past is None else past.length
    length = refill.length + jnp.repeat(num_shared, len(is_new) // num_groups)
    slots = kv_cache.slot_positions(length, rows.cache.end, rows.cache.num_slots)

    own = slots - jnp.repeat(num_shared, len(is_new) // num_groups)[:, None]
    of_stem, of_rest = own + refill.stem_start[:, None], own + (refill.start - refill.stem)[:, None]
    columns = jnp.where(own < refill.stem[:, None], of_stem, of_rest).reshape(num_groups, -1)

    def place(whole, new, shared):  # [L, R, K, S, H], [L, G, T, K, H], [L, G, K, P, H]
        found = jnp.take_along_axis(new, columns[None, :, :, None, None], axis=2, mode="clip")
        found = found.reshape(len(new), *slots.shape, *new.shape[3:]).swapaxes(2, 3)
        if shared is not None:
            index = slots.reshape(num_groups, -1)[None, :, None, :, None]
            before = jnp.take_along_axis(shared, index, axis=3, mode="clip").swapaxes(2, 3)
            before = before.reshape(len(new), *slots.shape, *new.shape[3:]).swapaxes(2, 3)
            found = jnp.where((own < 0)[:, None, :, None], before, found)
        return jnp.where(is_new[:, None, None, None], found, whole)

    shared = (None, None) if past is None else (past.keys, past.values)
    cache = kv_cache.KVCache(
        place(rows.cache.keys, keys, shared[0]),
        place(rows.cache.values, values, shared[1]),
        jnp.where(is_new, length, rows.cache.length),
        rows.cache.end,
    )
    hidden = hidden.reshape(len(is_new), -1)
    first = _next_tokens(compiled, model, hidden, refill.key, jnp.zeros(len(is_new), jnp.int32))
    new = (
        refill.key,
        refill.limit,
        jnp.zeros_like(rows.tokens).at[:, 0].set(first),
        jnp.ones_like(rows.count),
        _is_eos(compiled, first) | (refill.limit <= 1),
    )
    own = [
        jnp.where(is_new.reshape(-1, *(1,) * (x.ndim - 1)), x, y) for x, y in zip(new, rows[1:], strict=True)
    ]
    return _constrain(_Rows(cache, *own), model.mesh)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def _decode(compiled: _Compiled, params, layer_states, rows: _Rows, leave_at):
    """A chunk of steps, fewer where `leave_at` rows are done; the rows, and what the host looks at.

    Args:
        layer_states: of `decoder.Decoder.unstack`, None for the stack in `params`.
    """
    settings = nnx.merge(compiled.graphdef, params).settings
    params = layers.cast_products(params, settings.compute_dtype)  # for all steps
    model = nnx.merge(compiled.graphdef, params)
    if layer_states is not None:
        rows = rows._replace(cache=kv_cache.unstack(rows.cache))

    def goes_on(carry):
        step, rows = carry
        return (step < compiled.steps_per_chunk) & (jnp.sum(rows.is_done) < leave_at)

    def run_step(carry):
        step, rows = carry
        is_active = ~rows.is_done
        index = jnp.maximum(rows.count - 1, 0)[:, None]
        fed = jnp.take_along_axis(rows.tokens, index, axis=1)
        hidden, new = model.extend(fed, cache=rows.cache, layer_states=layer_states)
        cache = kv_cache.append(rows.cache, *new, is_active)
        found = _next_tokens(compiled, model, hidden[:, 0], rows.key, rows.count)
        is_here = (jnp.arange(rows.tokens.shape[1]) == rows.count[:, None]) & is_active[:, None]
        count = rows.count + is_active
        rows = rows._replace(
            cache=cache,
            tokens=jnp.where(is_here, found[:, None], rows.tokens),
            count=count,
            is_done=rows.is_done | _is_eos(compiled, found) | (count >= rows.limit),
        )
        return step + 1, rows if layer_states is not None else _constrain(rows, model.mesh)

    num_steps, rows = jax.lax.while_loop(goes_on, run_step, (0, rows))
    if layer_states is not None:
        rows = rows._replace(cache=kv_cache.stack(rows.cache))
    whole = sharding.replicated(model.mesh)
    seen = (rows.tokens, rows.count, rows.is_done, num_steps)
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
