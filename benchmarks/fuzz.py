"""Tries many damaged inputs of each kind of tests/support/fuzz.py, and writes what became of them.

    python benchmarks/fuzz.py --count=10000 --output=benchmarks/results/fuzz.json

A fault is printed with its kind, number and seed, by which `--kind` and `--first` try it again.
"""

import argparse
import collections
import json
import pathlib
import sys
import time

_REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_REPO / "tests"))
sys.path.insert(0, str(_REPO))

# The modules register their kinds.
from support import (  # noqa: E402
    fuzz,
    fuzz_answers,  # noqa: F401
    fuzz_config,  # noqa: F401
    fuzz_rows,  # noqa: F401
    fuzz_tokenizers,  # noqa: F401
    fuzz_weights,  # noqa: F401
    fuzz_workdir,  # noqa: F401
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=sorted(fuzz.KINDS), action="append", help="by default all of them")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=pathlib.Path, help="JSON of the counts; with --kind, of those kinds anew"
    )
    options = parser.parse_args()
    results, num_faults = {}, 0
    for kind in options.kind or list(fuzz.KINDS):
        start, endings = time.process_time(), collections.Counter()
        for one in fuzz.run(kind, range(options.first, options.first + options.count), seed=options.seed):
            endings[one.ending] += 1
            if one.ending not in ("read", "refused"):
                num_faults += 1
                print(
                    f"FAULT {kind} {one.number} (seed {options.seed}): {one.ending}: {one.told}", flush=True
                )
        seconds = round(time.process_time() - start, 1)
        results[kind] = {
            "cases": options.count,
            "seed": options.seed,
            **dict(sorted(endings.items())),
            "cpu_s": seconds,
        }
        print(kind, results[kind], flush=True)
    if options.output:
        if options.kind and options.output.exists():
            results = json.loads(options.output.read_text()) | results
        options.output.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(bool(num_faults))


if __name__ == "__main__":
    main()
