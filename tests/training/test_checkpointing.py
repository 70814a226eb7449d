"""States of training runs under way: going on from one is as if the run had never stopped; damage never goes unseen."""

import json
import pathlib
import types

import jax
import numpy as np
import pytest
from fixtures import make_parity
from support import marks, paths, training_parts

from selw2s_jax import sharding
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import preemption
from selw2s_jax.training import checkpointing, loop, metrics_log, state, step

# TensorStore's futures that nobody waits for any more once a file of theirs was found damaged.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NUM_STEPS = 11
FAMILY = "gpt2"


_COMPILED = {}


def compiled_step(graphdef, settings, mesh, shardings):
    """One compilation for all runs."""
    key = graphdef, settings, mesh
    if key not in _COMPILED:
        computation = training_parts.make_computation("selective")
        _COMPILED[key] = step.make_train_step(
            graphdef, computation, settings, mesh=mesh, state_shardings=shardings
        )
    return _COMPILED[key]


def class_head(train_state: state.TrainState) -> np.ndarray:
    """As an evaluation: some numbers of the state, which the next step overwrites."""
    return np.array(train_state.params["class_head"][...], copy=True).reshape(-1)


class Run:
    """A `selective` run of 11 steps, in two micro-batches, with its state saved every 4 steps, evaluated every 3.

    Args:
        is_evaluated: False leaves the last out.
    """

    def __init__(
        self, fixtures, folder: pathlib.Path, *, learning_rate: float = 1e-3, is_evaluated: bool = True
    ):
        self.folder, self.fixtures, self.train_step = folder, fixtures, None
        self.evaluation = loop.Evaluation(3, class_head) if is_evaluated else None
        self.mesh = sharding.single_device_mesh()
        self.settings = state.OptimizerSettings(learning_rate, NUM_STEPS)
        self.data = training_parts.make_data(
            make_parity.CONFIGS[FAMILY], "selective", num_micro=2, num_steps=NUM_STEPS
        )

    def checkpoints(self) -> checkpointing.Checkpoints:
        return checkpointing.Checkpoints(self.folder / "states", every_steps=4, keep=2)

    def start(self):
        model = training_parts.make_classifier(self.fixtures, FAMILY, p_ik_head=True)
        return state.start(model, self.settings, self.mesh)

    def abstract(self):
        model = training_parts.make_classifier(self.fixtures, FAMILY, p_ik_head=True)
        return state.abstract(model, self.settings, self.mesh)[1]

    def go(self):
        """Runs to the end from what is saved: first step, final state, metrics, trace, log, curve."""
        graphdef, train_state, shardings = self.start()
        train_step = self.train_step or compiled_step(graphdef, self.settings, self.mesh, shardings)
        with self.checkpoints() as checkpoints:
            saved = checkpoints.latest(self.abstract())
            first_step = 0
            if saved is not None:
                train_state, first_step = saved.state, saved.step
            history = loop.History(keep_trace=True, saved=saved)
            log = metrics_log.MetricsLog(self.folder / "log.jsonl", first_step=first_step)
            final, metrics = loop.train(
                train_step,
                train_state,
                self.data,
                mesh=self.mesh,
                log=log,
                label="test",
                history=history,
                checkpoints=checkpoints,
                failure_path=self.folder / "failure.json",
                evaluation=self.evaluation,
            )
        return (
            first_step,
            jax.device_get(final),
            metrics,
            history.trace,
            (self.folder / "log.jsonl").read_text(),
            history.curve,
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    fixtures = paths.FIXTURES
    return Run(fixtures, tmp_path_factory.mktemp("whole")).go()


@pytest.fixture
def told_after(monkeypatch):
    """Makes the run be told to stop at a poll."""

    def tell(number: int) -> None:
        polls = iter(range(1, 1000))
        told = types.SimpleNamespace(reached=lambda: next(polls) >= number, Preempted=preemption.Preempted)
        monkeypatch.setattr(loop, "preemption", told)

    yield tell


def assert_same(run, whole) -> None:
    _, final, metrics, trace, log, curve = run
    jax.tree.map(np.testing.assert_array_equal, final, whole[1])
    assert metrics == whole[2] and log == whole[4]
    assert trace.keys() == whole[3].keys()
    for name, column in trace.items():
        np.testing.assert_array_equal(column, whole[3][name], err_msg=name)
        assert column.dtype == whole[3][name].dtype
    for found, expected in zip(curve, whole[5], strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


@pytest.mark.slow
@pytest.mark.ci
def test_an_evaluation_is_of_each_state_and_changes_none(fixtures, tmp_path, whole):
    run = Run(fixtures, tmp_path, is_evaluated=False)
    before, bare = class_head(run.start()[1]), run.go()
    assert bare[5] is None
    assert_same((*bare[:5], whole[5]), whole)
    steps, values = whole[5]
    assert steps.tolist() == [0, 3, 6, 9, 11] and steps.dtype == np.int32
    np.testing.assert_array_equal(values[[0, -1]], [before, class_head(whole[1])])
    assert len(np.unique(values, axis=0)) == 5


def saved_steps(folder: pathlib.Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "states").iterdir())


@pytest.mark.parametrize(
    "stops",
    [
        (3, 2, 4),
        *(marks.in_ci(stops) for stops in ((7,), (1,), (10,))),
    ],
    ids=str,
)
def test_a_run_told_to_stop_goes_on_bit_for_bit(fixtures, tmp_path, told_after, monkeypatch, whole, stops):
    run, done = Run(fixtures, tmp_path), 0
    for number in stops:
        told_after(number)
        with pytest.raises(preemption.Preempted, match=f"stopped at step {done + number} of 11 of test"):
            run.go()
        done += number
        assert saved_steps(tmp_path)[-1] == done
    monkeypatch.undo()
    result = run.go()
    assert result[0] == done
    assert_same(result, whole)


def killed(fixtures, folder: pathlib.Path, monkeypatch) -> Run:
    """A run that died at step 9 with states of steps 4 and 8, its log half a line further."""
    run = Run(fixtures, folder)
    write = metrics_log.MetricsLog.write

    def die(self, number, metrics, **options):
        write(self, number, metrics, **options)
        if number == 9:
            self._file.write('{"step": 10, "train/lo')
            self._file.flush()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(metrics_log.MetricsLog, "write", die)
        with pytest.raises(KeyboardInterrupt):
            run.go()
    assert saved_steps(folder) == [4, 8]
    return run


def test_a_killed_run_goes_on_from_its_last_state(fixtures, tmp_path, monkeypatch, whole):
    run = killed(fixtures, tmp_path, monkeypatch)
    result = run.go()
    assert result[0] == 8
    assert_same(result, whole)


def test_a_state_that_was_not_finished_is_not_taken(fixtures, tmp_path, monkeypatch, whole):
    run = killed(fixtures, tmp_path, monkeypatch)
    states = tmp_path / "states"
    (states / "8").rename(states / "8.orbax-checkpoint-tmp")
    result = run.go()
    assert result[0] == 4 and not (states / "8.orbax-checkpoint-tmp").exists()
    assert_same(result, whole)


def damage(path: pathlib.Path, how: str) -> None:
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])


@pytest.mark.parametrize(
    ("every", "how"),
    [
        marks.thorough(1, "removed"),
        marks.in_ci(1, "cut"),
        marks.thorough(1, "flipped"),
        (3, "flipped"),
    ],
)
def test_damage_to_any_file_is_seen_or_does_no_harm(fixtures, tmp_path, monkeypatch, capsys, every, how):
    """To each file of a state in turn, or to some of them."""
    run = killed(fixtures, tmp_path, monkeypatch)
    abstract = run.abstract()

    def latest():
        with run.checkpoints() as checkpoints:
            return checkpoints.latest(abstract)

    sound = latest()
    assert sound.step == 8
    newest, spare = tmp_path / "states" / "8", tmp_path / "spare"
    newest.rename(spare)
    older = latest()
    assert older.step == 4
    passed_over = 0
    files = sorted(path.relative_to(spare) for path in spare.rglob("*") if path.is_file())
    for name in [name for name in files if (spare / name).stat().st_size][::every]:
        copy_tree(spare, newest)
        damage(newest / name, how)
        found = latest()
        message = capsys.readouterr().out
        expected = sound if found.step == 8 else older
        passed_over += found.step != 8
        assert ("step 8 is damaged and passed over" in message) == (found.step == 4), name
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=str(name))
        remove_tree(newest)
    assert passed_over > 5 / every


def copy_tree(source: pathlib.Path, target: pathlib.Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


def remove_tree(folder: pathlib.Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@pytest.mark.slow
@pytest.mark.ci
def test_a_damaged_state_is_replaced_when_the_run_passes_it(fixtures, tmp_path, monkeypatch, capsys, whole):
    run = killed(fixtures, tmp_path, monkeypatch)
    for path in (tmp_path / "states" / "8" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            damage(path, "flipped")
    result = run.go()
    assert result[0] == 4 and "step 8 is damaged" in capsys.readouterr().out
    assert_same(result, whole)
    with run.checkpoints() as checkpoints:
        assert checkpoints.latest(run.abstract()).step == 8


def test_without_a_sound_state_nothing_is_overwritten(fixtures, tmp_path, monkeypatch):
    run = killed(fixtures, tmp_path, monkeypatch)
    for name in ("4", "8"):
        for path in (tmp_path / "states" / name / "record").iterdir():
            damage(path, "cut")
    with pytest.raises(UserError, match=r"none of the states in .*states is sound .*or delete that folder"):
        run.go()
    assert saved_steps(tmp_path) == [4, 8]


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        marks.in_ci(ValueError("UNAVAILABLE: connection reset")),
        marks.in_ci(MemoryError("out of memory")),
        marks.in_ci(ValueError("Error reading file [os_error_code='13'] PERMISSION_DENIED")),
    ],
    ids=str,
)
def test_a_state_that_cannot_be_read_is_not_taken_for_damaged(fixtures, tmp_path, monkeypatch, error):
    run = killed(fixtures, tmp_path, monkeypatch)

    def read(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpointing, "_read_state", read)
        with pytest.raises(UserError, match=r"states/8 cannot be read \(.*; mend that and run"):
            run.go()
    assert saved_steps(tmp_path) == [4, 8]
    assert run.go()[0] == 8


def test_a_loss_that_is_not_finite_keeps_the_last_sound_state(fixtures, tmp_path):
    run = Run(fixtures, tmp_path)
    graphdef, _, shardings = run.start()
    compiled = compiled_step(graphdef, run.settings, run.mesh, shardings)

    def train_step(train_state, batch):
        number = int(train_state.step)
        train_state, metrics, trace = compiled(train_state, batch)
        return train_state, metrics | ({"loss": np.float32("nan")} if number == 7 else {}), trace

    run.train_step = train_step
    with pytest.raises(UserError, match=r"test: loss nan .* at step 7 of 11 \(first examples: .*all in "):
        run.go()
    assert saved_steps(tmp_path) == [4], "the state after step 7 was due, and is not sound"
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert failure["step"] == 7 and failure["example_ids"] == run.data.example_ids(7)


def test_checksums_see_every_bit_and_the_order():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, jax.numpy.bfloat16, np.int32):
        x = rng.standard_normal((3, 5, 7)).astype(dtype)
        whole = int(checkpointing._checksums({"x": x})["x"])
        bits = x.view(np.uint8)
        for place in range(bits.size):
            for bit in range(8):
                bits.reshape(-1)[place] ^= 1 << bit
                if place % 13 == 0:
                    assert int(checkpointing._checksums({"x": x})["x"]) != whole
                bits.reshape(-1)[place] ^= 1 << bit
        assert int(checkpointing._checksums({"x": x[::-1].copy()})["x"]) != whole
        assert int(checkpointing._checksums({"x": x})["x"]) == whole
