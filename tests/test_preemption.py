"""Being told to stop: the signal, the cloud's notice, and what the long loops make of it."""

import http.server
import os
import signal
import threading

import numpy as np
import pytest

from selw2s_jax import preemption, sharding
from selw2s_jax.inference import classify


@pytest.fixture(autouse=True)
def untold():
    """Every test starts without having been told, and leaves the signal as it was."""
    before = signal.getsignal(signal.SIGTERM)
    preemption._told.clear()
    yield
    preemption._told.clear()
    signal.signal(signal.SIGTERM, before)


def test_a_signal_is_an_answer_that_stays(untold):
    preemption.watch()
    assert not preemption.reached()
    preemption.check("nothing")
    os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.reached() and preemption.reached()
    with pytest.raises(preemption.Preempted, match="stopped before the end of the test"):
        preemption.check("the test")


def serve(answers: list[str]):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Metadata-Flavor"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers.pop(0).encode())

        def log_message(self, *_):
            pass

    asked: list[tuple[str, str]] = []
    server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, asked


def test_the_clouds_notice_becomes_the_signal(monkeypatch):
    server, asked = serve(["FALSE", "TRUE\n"])
    told = threading.Event()
    monkeypatch.setattr(
        preemption.os, "kill", lambda pid, number: told.set() if number == signal.SIGTERM else None
    )
    monkeypatch.setenv("GCE_METADATA_HOST", f"localhost:{server.server_port}")
    preemption.watch_cloud_notice()
    assert told.wait(timeout=30)
    server.shutdown()
    assert asked == [("/computeMetadata/v1/instance/preempted?wait_for_change=true", "Google")] * 2


def test_without_a_metadata_service_nothing_happens(monkeypatch):
    monkeypatch.setenv("GCE_METADATA_HOST", "localhost:1")
    before = threading.active_count()
    preemption.watch_cloud_notice()
    for thread in threading.enumerate():
        if thread.name == "preemption notice":
            thread.join(timeout=30)
    assert threading.active_count() <= before and not preemption.reached()


def test_scoring_stops_between_batches(monkeypatch):
    polls = iter([False, False, True])
    monkeypatch.setattr(preemption, "reached", lambda: next(polls))
    tokens = [np.arange(1, length, dtype=np.int32) for length in (90, 80, 70, 60)]

    seen = []

    def forward(static, params, batch):
        return batch.row[0]

    monkeypatch.setattr(classify, "_take", lambda outputs, count: seen.append(count))
    with pytest.raises(preemption.Preempted, match="stopped before the end of scoring"):
        classify.score(
            forward,
            None,
            (),
            tokens,
            mesh=sharding.single_device_mesh(),
            batch_tokens=64,
            max_length=128,
            label="scoring",
        )
    assert len(seen) == 1
