"""The picture of tasks that are learnt one after the other."""

from collections.abc import Mapping, Sequence

import numpy as np

from selw2s_jax.analysis import method_looks, plotting


def draw(
    matrices: Mapping[str, Mapping[int, np.ndarray]],
    tasks: Sequence[str],
    *,
    title: str,
    styles: method_looks.Styles,
) -> plotting.Picture:
    """A panel for each task: accuracy on it after every task, a line per method.

    Args:
        matrices: of `continual_numbers.matrices`.
        tasks: in the order of learning.
    """
    with plotting.default_style():
        figure = plotting.figure(width=3.0 * max(len(tasks), 2), height=4.2)
        figure.suptitle(title, fontsize=13)
        panels = np.atleast_1d(figure.subplots(1, len(tasks), sharey=True))
        places = np.arange(len(tasks))
        for column, (axes, task) in enumerate(zip(panels, tasks, strict=True)):
            for method, of_seed in matrices.items():
                color, dash = styles[method]
                values = 100 * np.mean([one[:, column] for one in of_seed.values()], axis=0)
                axes.plot(
                    places, values, color=color, linestyle=dash, linewidth=1.6, marker="o", markersize=4
                )
            if column:
                axes.axvline(column - 0.5, color=plotting.GREY, linestyle="--", linewidth=1)
            axes.set_title(f"on {task}", fontsize=11)
            axes.set_xticks(places, [f"after\n{name}" for name in tasks], fontsize=8)
            axes.set_xlim(-0.4, len(tasks) - 0.6)
            axes.grid(axis="y", alpha=0.25)
        panels[0].set_ylabel("test accuracy in per cent")
        plotting.add_legend(figure, {method: styles[method] for method in matrices})
        return plotting.Picture(figure)
