"""What a finished run leaves behind: results.json, pictures, and a table on the terminal."""

import json
import math
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from selw2s_jax.analysis import methods, plotting, result_figures, results
from selw2s_jax.data import item_predictions
from selw2s_jax.run import collect, manifests
from selw2s_jax.runtime import artifacts, distributed, storage


def finite(value: Any) -> Any:
    """A JSON value with null for every number that is not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(
    config: ml_collections.ConfigDict,
    collector: collect.Collector,
    report: dict[str, Any],
    folder: epath.Path,
) -> None:
    """Writes a run's report and its pictures, and prints them; all processes call this together.

    Args:
        config: of the run.
        collector: of its results.
        report: what `results.json` shall hold, as JSON values.
    """
    artifacts.write_text(
        folder / manifests.RESULTS_FILE, json.dumps(report, indent=1, allow_nan=False) + "\n"
    )
    pictures = []
    distributed.main_only(lambda: pictures.extend(_draw(report, collector, config, folder)))
    if report["records"]:
        print()
        print(results.format_table(report["records"], report["summary"], report["majority_class_accuracy"]))
    if report.get("members"):
        print()
        print(results.format_members(report["members"]))
    if report.get("reliability"):
        print()
        print(results.format_reliability(report["reliability"]))
    if report["diagnostics"]:
        print()
        print(results.format_diagnostics(report["diagnostics"]))
    if any(entry["disagreeing"] for entry in report["disagreement"]):
        print()
        print(results.format_disagreement(report["disagreement"]))
    if report.get("kernels"):
        print()
        print(results.format_kernels(report["kernels"]))
    if report["p_ik"]:
        print()
        print(results.format_p_ik_tests(report["p_ik"]))
    if "by_frequency" in report:
        print()
        print(results.format_by_frequency(report["by_frequency"]))
    items = [folder / item_predictions.FILE]  # of runs that ask models of a test
    files = (folder / manifests.RESULTS_FILE, *(path for path in items if path.exists()), *pictures)
    print(f"\nresults in {', '.join(map(str, files))}")


def _draw(
    report: dict[str, Any],
    collector: collect.Collector,
    config: ml_collections.ConfigDict,
    folder: epath.Path,
) -> list[epath.Path]:
    """Pictures of the results, beside results.json: those of the report, as PNG."""
    weak = manifests.weak_name(report["manifest"])
    strong = manifests.title_of(report["manifest"]["models"]["strong"])
    drawn = {}
    if rows := [with_intervals(row) for row in report["summary"]]:
        drawn["results"] = result_figures.draw_results(
            rows,
            title=f"{config.task}: {weak} teaches {strong}",
            facts={row["method"]: methods.facts(row["method"], config.supervision) for row in rows},
            chance=report["majority_class_accuracy"],
        )
    if report["p_ik"]:
        about = strong if weak is None else f"{strong} beside what {weak} teaches"
        drawn["p_ik"] = _draw_p_ik(report["p_ik"], collector, about, config.p_ik.gamma)
    if "by_frequency" in report:
        counts = report["by_frequency"]
        drawn["by_frequency"] = result_figures.draw_by_frequency(
            title=f"{config.task}: accuracy by frequency of the entity in the text",
            groups=results.FREQUENCY_GROUPS,
            correct={name: counts["correct"][name] for name in methods.compared(counts["correct"])},
            totals=counts["n"],
            facts={name: methods.facts(name, config.supervision) for name in counts["correct"]},
            **{key: counts[key] for key in ("chance",) if key in counts},
        )
    for name, picture in drawn.items():
        storage.write_bytes(folder / f"{name}.png", picture.png)
    return [folder / f"{name}.png" for name in drawn]


def with_intervals(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the summary with its intervals as pairs, None where one is not finite."""
    pairs = {key: (row[f"{key}_low"], row[f"{key}_high"]) for key in ("accuracy", "pgr")}
    return row | {f"{key}_interval": None if None in pair else pair for key, pair in pairs.items()}


def _draw_p_ik(
    entries: list[dict[str, Any]], collector: collect.Collector, about: str, gamma: float
) -> plotting.Picture:
    """P(IK) and what is known, of all seeds, by test, of the method that pictures are of."""
    listed = methods.p_ik_first({entry["method"]: methods.facts(entry["method"]) for entry in entries})
    panels: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for entry in entries:
        if entry["method"] == listed[0]:
            items = collector.p_ik_items(entry["seed"], listed[0], entry["distribution"])
            name = result_figures.p_ik_panel(items.test_task, items.train_task)
            panels.setdefault(name, []).append((items.p_ik, items.known))
    of_method = f", of {listed[0]}" if len(listed) > 1 else ""
    return result_figures.draw_p_ik(panels, title=f"P(IK) of {about}{of_method}", gamma=gamma)
