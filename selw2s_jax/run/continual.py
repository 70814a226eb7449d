"""What `results.json` says of a task of a sequence beside what it says of any: right answers to the tests of all."""

from typing import Any

from selw2s_jax.run import collect
from selw2s_jax.stages import predict


class Collector(collect.Collector):
    """Reads the results of `continual.Experiment`."""

    def report(self) -> dict[str, Any]:
        """With `continual`: for each model that goes on learning, seed and task of the sequence, right answers."""
        return super().report() | {"continual": self._tests()}

    def _tests(self) -> list[dict[str, Any]]:
        found = []
        names = [name for name in self._experiment.classifiers() if name != "weak"]
        for seed, of_task in (
            (seed, one) for seed in self._config.seeds for one in self._inputs.of_tasks.items()
        ):
            task, inputs = of_task
            test = inputs.by_seed[seed].test
            for name in names:
                stage = self._experiment.evaluation_on(seed, name, task)
                prob_1 = self._table(stage, predict.FILE, "prob_1", test)
                found.append(
                    {
                        "method": name,
                        "seed": seed,
                        "learnt": self._config.task,
                        "tested": task,
                        "n": len(test),
                        "correct": int(((prob_1 > 0.5) == test.labels.astype(bool)).sum()),
                    }
                )
        return found
