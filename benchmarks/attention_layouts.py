"""Packed rows under a segment mask, beside one stream of tokens whose attention is over padded examples.

    python -m benchmarks.attention_layouts --output=benchmarks/results/attention_layouts.json

Both take the gradient of GPT-2's layers for the same 32 examples, of the lengths of each data set. `rows` is what
training does: examples share rows, whose padding every layer computes, and attention compares all tokens of a row.
`stream` has one row without padding but to a multiple of 16; attention gathers its tokens into a row for each example,
as long as the longest, and scatters the result back. They take turns; a ratio is the median over the rounds.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import outputs
from benchmarks.loops import protocol
from selw2s_jax.data import packing
from selw2s_jax.models import decoder, layers, registry

SEED = 0


def draw_lengths(task: str) -> list[int]:
    return protocol.draw_lengths(task, protocol.BATCH_SIZE, np.random.default_rng(SEED)).tolist()


def pack(rows: list[list[int]], lengths: list[int], row_length: int, vocab_size: int):
    """Tokens and segment ids `[R, T]`, and row and last `[E]`; an example's tokens are those of its number."""
    grids = np.zeros((2, len(rows), row_length), np.int32)
    row_of, last = np.zeros((2, len(lengths)), np.int32)
    for row, members in enumerate(rows):
        start = 0
        for segment, i in enumerate(members, start=1):
            stop = start + lengths[i]
            own = np.random.default_rng([SEED, i]).integers(1, vocab_size, lengths[i])
            grids[0, row, start:stop], grids[1, row, start:stop] = own, segment
            row_of[i], last[i], start = row, stop - 1, stop
    return *grids, row_of, last


def padded_attention(segment_ids: np.ndarray, lengths: list[int]):
    """`layers.attend` for one row, by the same over examples padded to the longest."""
    longest = packing.round_up(max(lengths), packing.TOKENS_MULTIPLE)
    starts = np.cumsum([0, *lengths[:-1]])
    index = np.minimum(starts[:, None] + np.arange(longest), segment_ids.shape[1] - 1)
    inverse = np.zeros(segment_ids.shape[1], np.int64)
    for i, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        inverse[start : start + length] = i * longest + np.arange(length)

    mask = jnp.broadcast_to(jnp.tril(jnp.ones((longest, longest), bool)), (len(lengths), 1, longest, longest))
    attend_to_rows = layers.attend

    def attend(q, k, v, context, settings):
        q, k, v = (x[0][index] for x in (q, k, v))
        # As in training, the compiler does not know the mask.
        own = context._replace(mask=jax.lax.optimization_barrier(mask))
        out = attend_to_rows(q, k, v, own, settings)
        return out.reshape(-1, *out.shape[2:])[inverse][None]

    return attend


def make_gradient(model: decoder.Decoder, task: str, layout: str):
    """A function that takes a gradient, and rows and tokens of the layout."""
    lengths = draw_lengths(task)
    if layout == "rows":
        needed = {
            n: np.array([packing.row_length_needed(lengths, n)]) for n in packing.row_counts(len(lengths), 1)
        }
        (shape,), _ = packing.choose_filled_shapes(needed, 1, sum(lengths))
        rows, row_length = packing.balance(lengths, shape.num_rows), shape.row_length
        attend = layers.attend
    else:
        rows, row_length = (
            [list(range(len(lengths)))],
            packing.round_up(sum(lengths), packing.TOKENS_MULTIPLE),
        )
    tokens, segment_ids, row, last = pack(rows, lengths, row_length, model.config.vocab_size)
    if layout == "stream":
        attend = padded_attention(segment_ids, lengths)
    graphdef, params = nnx.split(model)

    def loss(params, tokens, segment_ids):
        hidden = nnx.merge(graphdef, params).hidden_states(tokens, segment_ids)
        return jnp.mean(hidden[row, last] ** 2)

    with mock.patch.object(layers, "attend", attend):
        jax.clear_caches()  # of the forward pass, which does not know that its attention changed
        compiled = jax.jit(jax.value_and_grad(loss)).lower(params, tokens, segment_ids).compile()

    def take() -> float:
        return float(jax.block_until_ready(compiled(params, tokens, segment_ids))[0])

    return take, [len(rows), row_length]


def compare(model: decoder.Decoder, task: str, rounds: int) -> dict:
    made = {layout: make_gradient(model, task, layout) for layout in ("rows", "stream")}
    values = {layout: take() for layout, (take, _) in made.items()}
    np.testing.assert_allclose(values["rows"], values["stream"], rtol=1e-4)
    seconds: dict[str, list[float]] = {layout: [] for layout in made}
    for _ in range(rounds):
        for layout, (take, _) in made.items():
            start = time.perf_counter()
            take()
            seconds[layout].append(time.perf_counter() - start)
    ratio = statistics.median(b / a for a, b in zip(seconds["rows"], seconds["stream"], strict=True))
    tokens = sum(draw_lengths(task))
    return {
        "tokens": tokens,
        "shapes": {layout: shape for layout, (_, shape) in made.items()},
        "padding_efficiency": {
            layout: round(tokens / (rows * length), 3) for layout, (_, (rows, length)) in made.items()
        },
        "seconds": {layout: round(statistics.median(times), 3) for layout, times in seconds.items()},
        "stream_over_rows": round(ratio, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="*", default=["sciq", "gsm8k", "cosmos_qa", "boolq"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--remat", default="none")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    model = decoder.Decoder(
        registry.MODELS["gpt2"].config,
        param_dtype="float32",
        compute_dtype=args.dtype,
        remat=args.remat,
        rngs=nnx.Rngs(0),
    )
    machine = {
        "machine": outputs.MACHINE,
        "device": jax.devices()[0].device_kind,
    }
    report = machine | {"dtype": args.dtype, "remat": args.remat, "tasks": {}}
    for task in args.tasks:
        report["tasks"][task] = compare(model, task, args.rounds)
        print(task, report["tasks"][task], file=sys.stderr, flush=True)
        if args.output:  # after each, as all of them take long on a CPU
            args.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
