"""What a finished run leaves behind: results.json, pictures, and a table on the terminal."""

import json
import math
from typing import Any

import ml_collections
from etils import epath

from selw2s_jax.analysis import methods, results
from selw2s_jax.data import item_predictions
from selw2s_jax.run import collect, figures, manifests
from selw2s_jax.runtime import artifacts, distributed


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
    """Pictures of the results, beside results.json."""
    pictures = [folder / "results.png"]
    figures.draw_summary(
        pictures[0],
        title=f"{_title(report, config)}, {len(config.seeds)} seed(s)",
        rows=report["summary"],
        p_ik_panels=_p_ik_panels(report, collector),
        gamma=config.p_ik.gamma,
    )
    if "by_frequency" in report:
        pictures.append(folder / "by_frequency.png")
        counts = report["by_frequency"]
        shown = methods.compared(counts["correct"])
        figures.draw_accuracy_by_frequency(
            pictures[1],
            title=f"{config.task}: accuracy by frequency of the entity in the text",
            groups=results.FREQUENCY_GROUPS,
            series={name: (counts["correct"][name], counts["n"]) for name in shown},
        )
    return pictures


def _title(report: dict[str, Any], config: ml_collections.ConfigDict) -> str:
    weak = manifests.weak_name(report["manifest"])
    strong = manifests.title_of(report["manifest"]["models"]["strong"])
    if weak is not None:
        return f"{config.task}: {weak} teaches {strong}"
    return f"P(IK) of {strong}: trained on {config.p_ik.task}, tested on {config.task}"


def _p_ik_panels(report: dict[str, Any], collector: collect.Collector) -> list[dict[str, Any]]:
    """P(IK) on known and unknown questions, of the first method and seed that have it tested."""
    panels = {}
    for entry in report["p_ik"]:
        items = collector.p_ik_items(entry["seed"], entry["method"], entry["distribution"])
        distribution = results.DISTRIBUTIONS[entry["distribution"]]
        title = f"P(IK) of {entry['method']}, seed {entry['seed']}, {entry['test_task']} ({distribution})"
        panel = {"title": title, "known": items.p_ik[items.known], "unknown": items.p_ik[~items.known]}
        panel |= {key: entry[key] for key in ("auroc", "auroc_low", "auroc_high")}
        panels.setdefault(entry["distribution"], panel)
    return list(panels.values())
