"""Registrations of workdirs that `report_runs` writes."""

import json
import pathlib

from support import report_runs

from selw2s_jax.run import registrations
from selw2s_jax.runtime import artifacts

PAIRS = (("selective", "random_selection"), ("selective", "finetune"))
CODE = {"version": "0.1.0", "source": "0123456789abcdef", "commit": None}


def content(config, *, pairs=PAIRS, seeds=(0, 1), n=report_runs.NUM_ITEMS, labels_hash="f" * 64, level=0.05):
    """What a registration holds."""
    return {
        "time": "2026-01-02T03:04:05+00:00",
        "code": CODE,
        "config": config,
        "config_hash": artifacts.content_hash(config)[:16],
        "comparisons": [{"first": first, "second": second} for first, second in pairs],
        "test": {"kind": registrations.TEST, "correction": "Holm", "num_tests": len(pairs), "level": level},
        "runs": [
            {
                "name": "",
                "task": "sciq",
                "seeds": list(seeds),
                "n": n,
                "labels_hash": labels_hash,
                "texts_hash": "",
            }
        ],
    }


def write_run(
    workdir, *, entry=None, is_met=True, other_test=False, of_content=None, **of_run
) -> pathlib.Path:
    """A workdir with a run and the registration that it met when it began.

    Args:
        entry: changes to what the run's manifest says of it.
        is_met: whether the manifest says anything.
        other_test: whether the registered test items are others.
        of_content: arguments of `content`.
        of_run: arguments of `report_runs.write_run`.
    """
    report_runs.write_run(workdir, **of_run)
    path = workdir / "manifest.json"
    manifest = json.loads(path.read_text())
    if not other_test:
        of_content = {"n": manifest["test"]["n"], "labels_hash": manifest["test"]["labels_hash"]} | (
            of_content or {}
        )
    found = registrations.write(workdir, content(manifest["config"], **(of_content or {})))
    met = {"sha256": found.sha256, "students_before": 0, "differing": []} | (entry or {})
    path.write_text(json.dumps(manifest | ({"registration": met} if is_met else {})))
    return workdir
