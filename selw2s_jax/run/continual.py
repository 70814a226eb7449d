"""What `results.json` says of a task of a sequence beside what it says of any: right answers to the tests of all."""

from typing import Any

from selw2s_jax.data import item_predictions
from selw2s_jax.run import collect


class Collector(collect.Collector):
    """Reads the results of `continual.Experiment`."""

    def report(self) -> dict[str, Any]:
        """With `continual`: for each model that goes on learning, seed and task of the sequence, right answers."""
        return super().report() | {"continual": self._counts()}

    def predictions(self) -> list[item_predictions.Predicted]:
        """With those on the tests of the other tasks."""
        return super().predictions() + [
            part for part in self._predicted_on_all() if part.test.name != self._config.task
        ]

    def _counts(self) -> list[dict[str, Any]]:
        return [
            {
                "method": part.method,
                "seed": part.seed,
                "learnt": self._config.task,
                "tested": part.test.name,
                "n": len(part.correct),
                "correct": int(part.correct.sum()),
            }
            for part in self._predicted_on_all()
        ]

    def _predicted_on_all(self) -> list[item_predictions.Predicted]:
        names = [name for name in self._experiment.classifiers() if name != "weak"]
        return [
            self._predicted(
                name, seed, self._experiment.evaluation_on(seed, name, task), inputs.by_seed[seed].test
            )
            for seed in self._config.seeds
            for task, inputs in self._inputs.of_tasks.items()
            for name in names
        ]
