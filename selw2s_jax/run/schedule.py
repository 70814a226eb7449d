"""Makes the stages of a run that are missing: one after the other, or side by side on groups of devices."""

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import jax

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import garbage, preemption
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.stages import workbench


def make_all(
    missing: Sequence[stage_lib.Stage],
    benches: Sequence[workbench.Workbench],
    cells: Mapping[str, str],
    claimed: Callable[[], Collection[str]] = frozenset,
) -> None:
    """Makes stages, each after those that it needs.

    Args:
        missing: the stages, each once and after those it needs.
        benches: of the groups of devices; each makes one stage at a time.
        cells: names of the runs of a sweep that stages are first made for, "" without one, by the stage's key.
        claimed: gives "<name>-<key>" of the stages that others are making now; they come last, as making one then
            is waiting for it.

    Raises:
        UserError: a stage failed; the others that were under way are finished first.
        Preempted: the run was told to stop.
    """
    queue = _Queue(missing, claimed)
    with garbage.set_aside():
        _work_on(queue, benches, cells)
    if queue.error is not None:
        raise queue.error


def _work_on(queue: "_Queue", benches: Sequence[workbench.Workbench], cells: Mapping[str, str]) -> None:
    if len(benches) == 1:
        _work(queue, benches[0], cells, "")
    else:
        threads = [
            threading.Thread(target=_work, args=(queue, bench, cells, f"group {number}, "), daemon=True)
            for number, bench in enumerate(benches)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class _Queue:
    """Hands out stages once all that they need is made; ends when all are, or one has failed."""

    def __init__(self, missing: Sequence[stage_lib.Stage], claimed: Callable[[], Collection[str]]):
        self._claimed = claimed
        self._left = {stage.key: stage for stage in missing}
        self._under_way: set[str] = set()
        self._condition = threading.Condition()
        self.total = len(self._left)
        self.error: BaseException | None = None

    def take(self, last: stage_lib.Stage | None) -> tuple[int, stage_lib.Stage] | None:
        """The next stage and its number, None at the end.

        Where there is one, answers of the language model that has just answered, or else a stage that needs nothing but
        `last` or what that needed: the model is then still there.
        """
        at_hand = set() if last is None else {last.key, *(need.key for need in last.needs)}
        with self._condition:
            while self._left and self.error is None:
                ready = [
                    stage
                    for stage in self._left.values()
                    if not any(need.key in self._left or need.key in self._under_way for need in stage.needs)
                ]
                if ready:
                    near = [s for s in ready if s.needs and {need.key for need in s.needs} <= at_hand]
                    stage = self._first_free([*(s for s in ready if _asks_the_same(s, last)), *near, *ready])
                    del self._left[stage.key]
                    self._under_way.add(stage.key)
                    return self.total - len(self._left), stage
                self._condition.wait()
            return None

    def _first_free(self, candidates: list[stage_lib.Stage]) -> stage_lib.Stage:
        claimed = self._claimed() if len(candidates) > 1 else ()
        return next((s for s in candidates if f"{s.name}-{s.key}" not in claimed), candidates[0])

    def finished(self, stage: stage_lib.Stage) -> None:
        with self._condition:
            self._under_way.discard(stage.key)
            self._condition.notify_all()

    def failed(self, error: BaseException) -> None:
        """Ends the work; the first error counts."""
        with self._condition:
            self.error = self.error or error
            self._condition.notify_all()


def _asks_the_same(stage: stage_lib.Stage, last: stage_lib.Stage | None) -> bool:
    """Whether both stages are answers of one language model."""
    return (
        last is not None and stage.language_model is not None and stage.language_model == last.language_model
    )


def _work(queue: _Queue, bench: workbench.Workbench, cells: Mapping[str, str], where: str) -> None:
    last = None
    try:
        while (taken := queue.take(last)) is not None:
            number, stage = taken
            start = time.monotonic()
            preemption.check(f"the run: {queue.total - number + 1} stages are left")
            cell = f"{cells[stage.key]}: " if cells[stage.key] else ""
            print(f"[{number}/{queue.total}] {where}{cell}{stage.label}", flush=True)
            with _told_of_full_memory(stage):
                bench.make(stage)
            which = f"{where}{cell}{stage.label}: " if where else ""
            print(f"  {which}{time.monotonic() - start:.1f} s", flush=True)
            queue.finished(stage)
            last = stage
    except BaseException as error:
        if not where:
            raise
        queue.failed(error)
        if isinstance(error, UserError):
            print(f"  {where}{error}; the stages under way on other devices are finished first", flush=True)


@contextlib.contextmanager
def _told_of_full_memory(stage: stage_lib.Stage) -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"{stage.label}: the device is out of memory; lower training.micro_batch_size or "
            "execution.score_tokens, or use more devices; finished stages are kept"
        ) from error
