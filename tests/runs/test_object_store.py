"""A whole run with its workdir, data and model on gs://, against a local stand-in that speaks Google's protocol."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from support import commands, paths

from selw2s_jax.worlds import smoke


def with_generations(download):
    """The emulator leaves out the header by which TensorStore knows the version of what it read."""

    def answer(request, response, storage, *args, **options):
        download(request, response, storage, *args, **options)
        if response.status.value < 300:
            found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
            response["x-goog-generation"] = found["generation"]

    return answer


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Environment of processes that find an empty bucket gs://trial; files go there through `copy_in`."""
    pytest.importorskip("gcsfs", reason="gcsfs is not installed: pip install 'selw2s-jax[gs]'")
    emulator = pytest.importorskip(
        "gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed"
    )
    from gcp_storage_emulator.handlers import objects

    monkeypatch.setattr(objects, "download", with_generations(objects.download))
    port = commands.free_port()
    server = emulator.create_server("localhost", port, in_memory=True, default_bucket="trial")
    server.start()
    address = f"http://localhost:{port}"
    yield {
        "STORAGE_EMULATOR_HOST": address,
        "TENSORSTORE_GCS_HTTP_URL": address,
        "SELW2S_CACHE": str(tmp_path / "copies"),
    }
    server.stop()


def copy_in(folder: pathlib.Path, target: str, environment) -> None:
    code = "import sys; from selw2s_jax.runtime import storage; storage.copy_tree(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(folder), target]
    subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, cwd=paths.REPO)


def read(path: str, environment) -> bytes:
    code = (
        "import sys; from etils import epath; sys.stdout.buffer.write(epath.Path(sys.argv[1]).read_bytes())"
    )
    command = [sys.executable, "-c", code, path]
    return subprocess.run(
        command, env=os.environ | environment, check=True, capture_output=True, cwd=paths.REPO
    ).stdout


@pytest.mark.slow
def test_a_run_on_gs_is_killed_and_ends_as_a_local_one(tmp_path, bucket):
    copy_in(smoke.data_folder(tmp_path / "made"), "gs://trial/questions", bucket)
    copy_in(smoke.model_folder("random-tiny-gpt2", tmp_path / "made"), "gs://trial/models/tiny", bucket)
    on_gs = ("--config.data.source=gs://trial/questions", "--config.weak.model=gs://trial/models/tiny")
    local = (
        f"--config.data.source={tmp_path / 'made' / 'data'}",
        f"--config.weak.model={tmp_path / 'made' / 'random-tiny-gpt2'}",
    )
    killed = commands.start("gs://trial/runs/one", *on_gs, errors=subprocess.DEVNULL, **bucket)
    for line in killed.stdout:
        if line.startswith("[") and "selective, seed 0" in line:
            break
    else:
        pytest.fail(f"ended by itself: {killed.wait()}")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()

    ((status, out, last),) = commands.endings([commands.start("gs://trial/runs/one", *on_gs, **bucket)])
    assert status == 0, (out, last)
    assert "took over the lock of" in out and " 2 to run" in out
    ((status, _, last),) = commands.endings([commands.start(tmp_path / "run", *local)])
    assert status == 0, last
    ours, theirs = (
        json.loads(content)
        for content in (
            read("gs://trial/runs/one/results.json", bucket),
            (tmp_path / "run" / "results.json").read_text(),
        )
    )
    assert ours["diagnostics"] == theirs["diagnostics"]
    for our, their in zip(ours["records"], theirs["records"], strict=True):
        assert {**our, "weak": None} == {**their, "weak": None}
    assert read("gs://trial/runs/one/results.png", bucket).startswith(b"\x89PNG")
    log = next((tmp_path / "run" / "logs").glob("selective*")).name
    assert read(f"gs://trial/runs/one/logs/{log}", bucket) == (tmp_path / "run" / "logs" / log).read_bytes()
