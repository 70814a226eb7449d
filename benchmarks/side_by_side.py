"""Examples per second of our train step and scoring beside two loops of torch and transformers.

    python -m benchmarks.side_by_side --task=sciq --source=DATA --tokenizer=FOLDER --output=benchmarks/results/NAME.json

All take the same examples in the same steps of 32 from the same weights, and their losses are compared: they do the
same work. Each runs in a process of its own, and they take turns step by step, so that all see the same machine; a
ratio is the median over the rounds. Where one model fills the device, --alone runs them one after the other.

--against=CHECKOUT is a further loop of ours, of another commit: its package in our worker, as `before`.

On a GPU without data at hand, --lengths=sciq takes random tokens of the data set's lengths, and --random_weights makes
the weights on the device (losses are then not compared).
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable

import numpy as np

from benchmarks import outputs
from benchmarks.loops import protocol
from selw2s_jax.data import sources, tasks
from selw2s_jax.hf import random_checkpoint, tokenizers
from selw2s_jax.models import registry

REPO = pathlib.Path(__file__).resolve().parent.parent
OURS, BEFORE, PEERS = "selw2s_jax", "before", ("tuned", "openai")
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # of all of them: a GPU's memory as it is needed
# For all of them too: memory in large pages, which spares page faults on a CPU.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Worker:
    """A loop in a process of its own."""

    def __init__(
        self, module: str, *arguments: str, environment: dict[str, str], folder: pathlib.Path = REPO
    ):
        command = [sys.executable, "-m", f"benchmarks.loops.{module}", *arguments]
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: a worker ended with status {self._process.wait()}")
        return json.loads(line)

    def ask(self, do: str, index: int = 0) -> dict:
        print(json.dumps({"do": do, "index": index}), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def read_examples(args) -> protocol.Examples:
    """Real questions, or random tokens of real lengths."""
    count = args.steps * protocol.BATCH_SIZE
    rng = np.random.default_rng(0)
    if args.lengths:
        drawn = protocol.draw_lengths(args.lengths, count, rng)
        tokens = [rng.integers(1, 50_000, length) for length in drawn]
        return protocol.Examples(tokens, rng.integers(0, 2, count))
    task = tasks.get_task(args.task)
    questions = sources.load_questions(task, "train", source=args.source)[:count]
    examples = tasks.convert(task, questions, mode="coin", seed=0)
    encoded = tokenizers.load_tokenizer(args.tokenizer).encode_batch([example.text for example in examples])
    return protocol.Examples(
        [np.array(ids[: args.max_length]) for ids in encoded], np.array([e.label for e in examples])
    )


def make_starts(args, folder: pathlib.Path) -> dict[str, Callable[[], Worker]]:
    """How each worker is started; ours first, whose order of examples the others take."""
    examples, order = folder / "examples.npz", folder / "order.npy"
    protocol.save_examples(examples, read_examples(args))
    sizes = registry.MODELS[args.model].config
    common = [f"--examples={examples}", f"--dtype={args.dtype}", f"--scored={args.scored}"]
    own, of_peers = [f"--model={args.model}"], [f"--sizes={json.dumps(dataclasses.asdict(sizes))}"]
    if not args.random_weights:
        if sizes.family != "gpt2":
            raise SystemExit(
                f"error: the peers read weights of gpt2 alone: give --random_weights for {args.model}"
            )
        random_checkpoint.write_random_checkpoint(folder / "checkpoint", sizes, scale=0.02)
        common.append(f"--checkpoint={folder / 'checkpoint'}")
    own += [f"--attention={args.attention}", f"--steps={args.steps}"]
    own.append(f"--score_tokens={args.score_tokens}")
    device = "cuda" if args.device == "gpu" else "cpu"
    environment = ENVIRONMENT | (HUGE_PAGES if args.huge_pages else {})

    def start_peer(style: str) -> Worker:
        own = (f"--style={style}", f"--order={order}", f"--device={device}")
        return Worker("peers", *common, *of_peers, *own, environment=environment)

    def start_ours(checkout: pathlib.Path, dtype: str, remat: str) -> Worker:
        path = {"PYTHONPATH": str(checkout)}
        options = (*common, f"--dtype={dtype}", f"--remat={remat}", *own)
        return Worker("ours", *options, environment=environment | path, folder=checkout)

    found = {OURS: functools.partial(start_ours, REPO, args.dtype, args.remat)}
    if args.against:
        of_before = (args.against_dtype or args.dtype, args.against_remat or args.remat)
        found[BEFORE] = functools.partial(start_ours, args.against.resolve(), *of_before)
    return found | {style: functools.partial(start_peer, style) for style in args.peers}


def compare(workers: dict[str, Worker], do: str, rounds: int, warmup: int, index=None) -> tuple[dict, dict]:
    """Seconds of each worker in each round, and what they answered; the first rounds are not kept.

    Args:
        index: asked for in every round, default the round's number.
    """
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    values: dict[str, list] = {name: [] for name in workers}
    for k in range(warmup + rounds):
        for name, worker in workers.items():
            answer = worker.ask(do, k if index is None else index)
            values[name].append(answer["value"])
            if k >= warmup:
                seconds[name].append(answer["seconds"])
        said = ", ".join(f"{name} {of_one[-1]:.3f} s" for name, of_one in seconds.items() if of_one)
        print(f"{do} {k + 1} of {warmup + rounds}: {said}", file=sys.stderr, flush=True)
    return seconds, values


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """How many times as long each peer takes: the median over the rounds."""
    ours = seconds[OURS]
    return {
        name: round(statistics.median(t / own for t, own in zip(times, ours, strict=True)), 2)
        for name, times in seconds.items()
        if name != OURS
    }


def report(seconds: dict[str, list[float]], num_examples: int) -> dict:
    return {
        "seconds": {name: [round(t, 4) for t in times] for name, times in seconds.items()},
        "examples_per_s": {
            name: round(num_examples / statistics.median(times), 2) for name, times in seconds.items()
        },
        "times_ours": ratios(seconds),
    }


def measure(args, folder: pathlib.Path) -> dict:
    """Everything that is asked for, of all workers."""
    starts = make_starts(args, folder)
    groups = [[name] for name in starts] if args.alone else [list(starts)]
    found, seconds, losses, scored = {}, {}, {}, {}
    for names in groups:
        workers = {}
        for name in names:
            workers[name] = starts[name]()
            if name == OURS:
                found |= workers[name].ask("describe")["value"]
                np.save(folder / "order.npy", found.pop("order"))
        do, index = ("train_many", args.steps_at_once) if args.steps_at_once > 1 else ("train", None)
        timed, answers = compare(workers, do, args.rounds, args.warmup, index)
        seconds, losses = seconds | timed, losses | answers
        scoring = {name: worker for name, worker in workers.items() if name != "openai"}
        if args.score_rounds and scoring:
            scored |= compare(scoring, "score", args.score_rounds, 1)[0]
        for worker in workers.values():
            worker.close()
    found["train"] = report(seconds, protocol.BATCH_SIZE * args.steps_at_once)
    if not args.random_weights:
        found["largest_difference_of_losses"] = max(
            (abs(a - b) for name in args.peers for a, b in zip(losses[OURS], losses[name], strict=True)),
            default=0.0,
        )
        found["losses"] = [round(loss, 6) for loss in losses[OURS]]
    if scored:
        found["score"] = report(scored, min(args.scored, args.steps * protocol.BATCH_SIZE))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="sciq")
    parser.add_argument("--source", help="folder of data sets, as data.source")
    parser.add_argument("--tokenizer", help="folder of the tokenizer")
    parser.add_argument("--lengths", choices=("sciq", "boolq", "cosmos_qa", "gsm8k"))
    parser.add_argument("--max_length", type=int, default=1024)
    parser.add_argument("--model", default="gpt2", choices=registry.MODELS)
    parser.add_argument("--random_weights", action="store_true")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--remat", default="dots")
    parser.add_argument("--attention", default="xla")
    parser.add_argument("--steps", type=int, default=128, help="steps that examples are taken for")
    parser.add_argument("--scored", type=int, default=512, help="examples that are scored in a round")
    parser.add_argument("--score_tokens", type=int, default=16_384, help="as execution.score_tokens")
    parser.add_argument(
        "--steps_at_once", type=int, default=1, help="steps of a round, metrics read one step late"
    )
    parser.add_argument("--huge_pages", action="store_true", help="glibc's malloc takes large pages, for all")
    parser.add_argument("--alone", action="store_true", help="one worker after the other")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--score_rounds", type=int, default=2)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument(
        "--against", type=pathlib.Path, help="a checkout of this repository at another commit"
    )
    parser.add_argument("--against_dtype", choices=("float32", "bfloat16"), help="its dtype, default --dtype")
    parser.add_argument("--against_remat", help="its remat, default --remat")
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    if not args.lengths and not (args.source and args.tokenizer):
        parser.error("give --source and --tokenizer for real questions, or --lengths for random ones")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args, pathlib.Path(folder))
    given = ("task", "lengths", "model", "dtype", "remat", "attention")
    given += ("steps_at_once", "score_tokens", "huge_pages", "against_dtype", "against_remat")
    settings = {name: getattr(args, name) for name in given}
    machine = {"machine": outputs.MACHINE}
    outputs.write(machine | settings | found, args.output)


if __name__ == "__main__":
    main()
