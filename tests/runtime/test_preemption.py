"""Being told to stop: the signal, the cloud's notice, and what the long loops make of it."""

import http.server
import os
import signal
import threading

import numpy as np
import pytest
from etils import epath

from selw2s_jax import sharding
from selw2s_jax.inference import classify, partials
from selw2s_jax.runtime import preemption


@pytest.fixture(autouse=True)
def untold():
    """Every test starts without having been told, and leaves the signal as it was."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    preemption._told.clear()
    yield
    preemption._told.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_is_an_answer_that_stays(untold):
    preemption.watch()
    assert not preemption.reached()
    preemption.check("nothing")
    os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.reached() and preemption.reached()
    with pytest.raises(preemption.Preempted, match="stopped before the end of the test"):
        preemption.check("the test")


def test_a_terminal_that_is_closed_is_an_answer_too(untold):
    preemption.watch()
    os.kill(os.getpid(), signal.SIGHUP)
    assert preemption.reached()


def test_what_nohup_started_outlives_its_terminal(untold):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    preemption.watch()
    os.kill(os.getpid(), signal.SIGHUP)
    assert not preemption.reached()


def serve(answers: list[str]):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Metadata-Flavor"]))
            answer = answers.pop(0)
            if answer is None:
                self.connection.close()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_):
            pass

    asked: list[tuple[str, str]] = []
    server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, asked


def test_the_clouds_notice_becomes_the_signal(monkeypatch):
    # None: the connection breaks. What was missed meanwhile is in the first answer after that.
    server, asked = serve(["FALSE", "FALSE", None, "FALSE", "TRUE\n"])
    told = threading.Event()
    monkeypatch.setattr(
        preemption.os, "kill", lambda pid, number: told.set() if number == signal.SIGTERM else None
    )
    monkeypatch.setenv("GCE_METADATA_HOST", f"localhost:{server.server_port}")
    preemption.watch_cloud_notice(retry_s=0)
    assert told.wait(timeout=30)
    server.shutdown()
    path = "/computeMetadata/v1/instance/preempted"
    waiting = f"{path}?wait_for_change=true"
    assert asked == [(query, "Google") for query in (path, waiting, waiting, path, waiting)]


def forward(static, params, batch):
    """Of each example its number of tokens, and a row of 3 for its last token."""
    last = batch.tokens[0][batch.row[0], batch.last[0]]
    return batch.positions[0][batch.row[0], batch.last[0]] + 1, {"none": None, "last": params * last[:, None]}


@pytest.fixture
def score(monkeypatch, tmp_path):
    """Scores 7 examples in 5 batches; told to stop at a poll, or never."""
    tokens = [np.arange(1, length, dtype=np.int32) for length in (66, 90, 20, 80, 70, 12, 68)]
    batches_run = []
    device_batch = classify.batches.device_batch

    def count(batch, mesh):
        batches_run.append(batch)
        return device_batch(batch, mesh)

    monkeypatch.setattr(classify.batches, "device_batch", count)

    def run(stop_at: int | None = None, partial: partials.Partial | None = None):
        batches_run.clear()
        polls = iter(range(1, 100))
        monkeypatch.setattr(preemption, "reached", lambda: next(polls) == stop_at)
        scores = classify.score(
            forward,
            None,
            np.float32([1, 2, 3]),
            tokens,
            mesh=sharding.single_device_mesh(),
            batch_tokens=128,
            label="scoring",
            partial=partial,
        )
        return scores, len(batches_run)

    return run


def assert_same(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1]["last"], expected[1]["last"])
    assert found[1]["none"] is None


def test_scoring_stops_between_batches_and_goes_on_after_them(score, tmp_path):
    expected, num_batches = score()
    np.testing.assert_array_equal(expected[0], [65, 89, 19, 79, 69, 11, 67])
    assert num_batches == 5
    path = epath.Path(tmp_path / "under way" / "scores.npz")
    for stop_at in (2, 3):
        with pytest.raises(preemption.Preempted, match="stopped before the end of scoring"):
            score(stop_at, partials.Partial(path))
    found, num_batches = score(None, partials.Partial(path))
    assert num_batches < 5
    assert_same(found, expected)
    partials.Partial(path).save(np.arange(7), [found[0], found[1]["last"]])
    found, num_batches = score(None, partials.Partial(path))
    assert num_batches == 0
    assert_same(found, expected)


@pytest.mark.parametrize("how", ["cut", "flipped", "empty"])
def test_scores_that_were_damaged_are_made_again(score, tmp_path, how):
    expected, _ = score()
    path = epath.Path(tmp_path / "scores.npz")
    with pytest.raises(preemption.Preempted):
        score(3, partials.Partial(path))
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 3] ^= 16
    path.write_bytes(bytes(content[: {"cut": len(content) // 2, "flipped": None, "empty": 0}[how]]))
    found, _ = score(None, partials.Partial(path))
    assert_same(found, expected)


def test_scoring_writes_now_and_then(score, tmp_path):
    path = epath.Path(tmp_path / "scores.npz")
    score(None, partials.Partial(path, every_s=-1.0))
    index, scores = partials.Partial(path).load()
    assert 0 < len(index) < 7 and [len(array) for array in scores] == [len(index)] * 2
