"""What `benchmarks/side_by_side.py` and its workers say to each other: JSON, a line each."""

import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BATCH_SIZE = 32
LEARNING_RATE = 1e-5
LENGTHS = pathlib.Path(__file__).resolve().parent.parent / "lengths.json"


class Examples(NamedTuple):
    """Token ids of N examples and their labels `[N]`."""

    tokens: list[np.ndarray]
    labels: np.ndarray


def draw_lengths(task: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens `[count]` of examples as long as those of a data set."""
    quantiles = json.loads(LENGTHS.read_text(encoding="utf-8"))["tokens"][task]
    return np.rint(np.interp(rng.random(count), np.linspace(0, 1, len(quantiles)), quantiles)).astype(int)


def save_examples(path, examples: Examples) -> None:
    lengths = [len(ids) for ids in examples.tokens]
    np.savez(path, tokens=np.concatenate(examples.tokens), lengths=lengths, labels=examples.labels)


def load_examples(path) -> Examples:
    with np.load(path, allow_pickle=False) as arrays:
        tokens = np.split(arrays["tokens"], np.cumsum(arrays["lengths"])[:-1])
        return Examples(tokens, arrays["labels"])


def serve(functions: dict[str, Callable[[int], float]]) -> None:
    """Answers requests {"do": name, "index": i} with the seconds of `functions[name](i)` and what it returns."""
    # Libraries print what they like: the answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        value = functions[request["do"]](request["index"])
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "value": value}), file=answers, flush=True)
