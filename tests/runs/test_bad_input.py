"""Mistakes of a user, end to end: one line with the remedy and exit status 2, before anything is trained."""

import csv
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import pytest
from support import marks
from support.refusals import ending, make_config

from selw2s_jax.experiments import inputs
from selw2s_jax.run import pipeline
from selw2s_jax.runtime import artifacts
from selw2s_jax.training import fit, metrics_log


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (dict(task="scq"), ["unknown config.task 'scq'", "did you mean 'sciq'?"]),
        (dict(p_ik__task="arcs"), ["unknown config.p_ik.task 'arcs'", "did you mean 'arc'?"]),
        (dict(p_ik__task="sciq"), ["config.p_ik.task=sciq is the student's own task", "choose another"]),
        (dict(p_ik__data="hard"), ["'hard' does not name parts of task arc", "easy, challenge"]),
        (dict(methods=("selectiv",)), ["config.methods='selectiv'", "did you mean 'selective'?"]),
        (dict(p_ik__prompt="few"), ["config.p_ik.prompt='few'", "bare, instruction, fewshot"]),
        (dict(training__micro_batch_size=3), ["batch_size=10 is not divisible", "choose a divisor"]),
        (dict(training__batch_size=21), ["20 examples and 1.0 epochs make no batch of 21", "batch_size"]),
        (
            dict(p_ik__batch_size=99, p_ik__stage="pretrain_then_joint"),
            ["P(IK)", "20 examples", "make no batch of 99"],
        ),
        (dict(data__num_train=1), ["cannot be halved; give at least 2"]),
        (dict(data__num_train=4), ["4 shots need 2 questions of label", "raise data.num_train"]),
        (dict(data__max_length=9, data__overlong="error"), ["20 example(s) longer than 9", "data.overlong="]),
        (dict(data__max_length=9), ["every example of weak_half is longer than 9", "raise data.max_length"]),
        (dict(data__source="/no/such"), ["data.source '/no/such' is neither 'hub' nor a folder"]),
        (dict(mesh__shape=(2, 3, 7)), ["mesh.shape (2, 3, 7) does not fit", "device(s)", "whose product is"]),
        (dict(execution__attention="cudnn"), ["attention=cudnn computes in bfloat16", "compute_dtype"]),
        (dict(weak__model="no-such"), ["no checkpoint 'no-such'", "folder", "gpt2-xl"]),
        (dict(strong__tokenizer="/no/such"), ["no tokenizer folder at /no/such", "give a folder"]),
        (dict(self_label__source="file"), ["needs self_label.file", "JSONL"]),
        (dict(data__train_file="/no/such.csv"), ["/no/such.csv is missing"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_config_value(refused, prepared, overrides, parts):
    line = refused(make_config(prepared, **overrides))
    assert all(part in line for part in parts), line


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="asks for a machine without an accelerator")
def test_cudnn_attention_on_a_cpu(refused, prepared):
    config = make_config(prepared, execution__attention="cudnn", precision__compute_dtype="bfloat16")
    assert "attention=cudnn needs a GPU, found cpu: set it to xla" in refused(config)


def test_tensorboard_without_its_package(refused, prepared, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboardX" else find_spec(name)
    )
    line = refused(make_config(prepared, logging__tensorboard=True))
    assert "logging.tensorboard=True needs tensorboardX: pip install" in line


# Data.


def write_own(path: pathlib.Path, rows: list[dict]) -> str:
    """Rows as JSONL or CSV; returns the path as the config takes it."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


GOOD = [{"text": f"the number {i} is even", "label": 1 - i % 2} for i in range(40)]


@pytest.mark.parametrize(
    ("key", "name", "row", "message"),
    [
        ("data__train_file", "own.jsonl", {"text": "x", "label": 2}, "label must be 0 or 1"),
        ("data__test_file", "own.csv", {"text": "x", "label": ""}, "label must be 0 or 1"),
        ("p_ik__file", "own.jsonl", {"text": " ", "label": 1}, "text is empty"),
    ],
)
def test_a_malformed_row(refused, prepared, tmp_path, name, row, message, key):
    good = write_own(tmp_path / "good.jsonl", GOOD)
    bad = write_own(tmp_path / name, [*GOOD[:17], row, *GOOD[17:]])
    config = make_config(prepared, **{"task": "parity", "data__train_file": good, key: bad})
    number = 18 if name == "own.jsonl" else 19
    line = refused(config)
    assert f"{name}: line {number}: {message}" in line and "mend or remove" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "own.jsonl has no rows"),
        ("{}\n", "needs the columns text,label; question,choices,answer; or question,solution (found: none)"),
        (
            '{"text": "a", "lable": 1}\n',
            "needs the columns text,label; question,choices,answer; or question,solution (found",
        ),
        ("{'text': 'a'}\n", "line 1: not a JSON object"),
        (b"\xff\xfe\n", "line 1: not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_data(refused, prepared, tmp_path, content, message):
    path = tmp_path / "own.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused(make_config(prepared, data__train_file=str(path)))


def test_a_data_folder_that_is_incomplete(refused, prepared, tmp_path):
    data = shutil.copytree(prepared.data, tmp_path / "data")
    config = make_config(prepared, data__source=str(data))

    victim = next(data.glob("ai2_arc/*/train.parquet"))
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    line = refused(config)
    assert f"{victim} cannot be read as parquet" in line and "again" in line

    (data / "sciq" / "test.parquet").unlink()
    line = refused(config)
    assert f"{data / 'sciq' / 'test.parquet'} is missing; put split 'test' of allenai/sciq there" in line


# Files of labels.


@pytest.fixture
def label_config(prepared, tmp_path):
    """A config with files of self labels and P(IK) scores, and the ids that they need."""
    config = make_config(prepared, methods=("selective",))
    found = inputs.prepare(config, tmp_path / "other")
    ids = found.by_seed[0].student_half.ids
    config.self_label.source, config.self_label.file = "file", str(tmp_path / "self.jsonl")
    config.p_ik.mask, config.p_ik.scores_file = "file", str(tmp_path / "scores.jsonl")
    config.p_ik.stage = "frozen"
    for path, field in ((config.self_label.file, "label"), (config.p_ik.scores_file, "p_ik")):
        write_own(pathlib.Path(path), [{"example_id": name, field: 1} for name in ids])
    return config


@pytest.mark.parametrize(("name", "field"), [("self.jsonl", "label"), marks.in_ci("scores.jsonl", "p_ik")])
def test_an_unreadable_file_of_labels(refused, label_config, tmp_path, name, field):
    path = tmp_path / name
    first, *rest = path.read_text().splitlines(keepends=True)
    example_id = json.loads(first)["example_id"]
    for row, message in (
        ("not JSON", f'line 2: expected {{"example_id": text, "{field}": number}}'),
        ("[1]", "line 2: expected"),
        ("{}", "line 2: expected"),
        ({"example_id": example_id, field: "yes"}, "line 2: expected"),
        ({"example_id": example_id, field: None}, "line 2: expected"),
        ({"example_id": [example_id], field: 1}, "line 2: example_id ['"),
        ({"example_id": 7, field: 1}, "line 2: example_id 7 must be a text"),
        ({"example_id": example_id, field: 1.5}, f"line 2: {field}=1.5 is outside [0, 1]"),
        ({"example_id": example_id, field: -1}, f"line 2: {field}=-1.0 is outside [0, 1]"),
        ({"example_id": example_id, field: float("nan")}, f"line 2: {field}=nan is outside"),
    ):
        path.write_text("\n" + (row if isinstance(row, str) else json.dumps(row)) + "\n" + "".join(rest))
        line = refused(label_config)
        assert f"{path}, {message}" in line

    path.write_text("".join([first, *rest, json.dumps({"example_id": example_id, field: 0})]))
    assert f"line 21: {example_id} has another {field} above; remove one" in refused(label_config)
    path.write_text("".join(rest))
    line = refused(label_config)
    assert f"{path} lacks 1 of 20 example_ids (first: {example_id}); make it for this split" in line
    path.write_bytes(b"\xff")
    assert f"{path}, line 1: expected" in (line := refused(label_config)) and "not UTF-8 text" in line
    path.unlink()
    assert f"{path} is missing or not a file; give JSON lines of example_id and {field}" in refused(
        label_config
    )


# The workdir.


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_workdir_that_cannot_be_written(refused, prepared, tmp_path, name):
    (tmp_path / "file").write_text("")
    line = refused(make_config(prepared), tmp_path / name)
    assert f"workdir {tmp_path / name} cannot be written" in line and "choose another --workdir" in line


def test_a_workdir_in_use(refused, prepared, tmp_path):
    code = (
        "import pathlib, sys; from selw2s_jax.runtime import artifacts\n"
        "with artifacts.locked_workdir(pathlib.Path(sys.argv[1])): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        line = refused(make_config(prepared))
        holder.communicate("\n")
    assert f"run is in use by process {holder.pid} on " in line and "choose another --workdir" in line


def test_a_disk_that_cannot_hold_the_weights(refused, prepared, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    line = refused(make_config(prepared))
    assert "has 0.000 GB free, and the stages to run need" in line and "free space" in line


def test_every_hub_name_without_network(refused, prepared, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = refused(make_config(prepared, strong__model="qwen-1.8b"))
    for part in (
        "Qwen/Qwen-1_8B",
        "hf download Qwen/Qwen-1_8B --revision 5fde88df",
        "$HF_HOME",
        "strong.model",
    ):
        assert part in line
    line = refused(make_config(prepared, data__source="hub", task="cosmos_qa"))
    for part in ("allenai/cosmos_qa split 'train'", "FOLDER/cosmos_qa/train.parquet", "data.source=FOLDER"):
        assert part in line


# Runs that fail on their way.


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory) -> pathlib.Path:
    """The workdir of a finished run."""
    workdir = tmp_path_factory.mktemp("finished")
    pipeline.run(make_config(prepared, methods=("finetune",)), workdir)
    return workdir


@pytest.fixture
def run_again(finished, tmp_path) -> pathlib.Path:
    """A copy of it, free to be damaged."""
    return shutil.copytree(finished, tmp_path / "run")


def contents(workdir: pathlib.Path) -> dict[str, bytes]:
    """Every file of the artifacts, hidden ones too."""
    return {str(path): path.read_bytes() for path in workdir.glob("artifacts/**/*") if path.is_file()}


def stage_folder(workdir: pathlib.Path, label: str) -> pathlib.Path:
    """The folder of the training stage of that label."""
    summaries = workdir.glob("artifacts/train/*/summary.json")
    return next(path.parent for path in summaries if json.loads(path.read_text())["label"] == label)


def predictions_of(workdir: pathlib.Path, trained: pathlib.Path) -> list[pathlib.Path]:
    """The folders of the predictions of a trained model."""
    manifests = workdir.glob("artifacts/predictions/*/manifest.json")
    return [
        path.parent for path in manifests if json.loads(path.read_text())["inputs"]["model"] == trained.name
    ]


@pytest.mark.slow
@pytest.mark.ci
def test_a_damaged_artifact(prepared, run_again, capsys):
    def refusal() -> str:
        before = contents(run_again)
        status, _, line = ending(make_config(prepared, methods=("finetune",)), run_again, capsys)
        assert status == 2 and contents(run_again) == before
        return line

    ceiling = stage_folder(run_again, "ceiling, seed 0")
    (evaluation,) = predictions_of(run_again, ceiling)
    name, table = f"predictions/{evaluation.name}", evaluation / "predictions.parquet"
    original = table.read_bytes()
    table.write_bytes(original[:-9])
    assert f"artifact {name} is damaged: predictions.parquet is missing or has another size" in refusal()
    table.write_bytes(bytes(original[:99]) + bytes([original[99] ^ 1]) + original[100:])
    assert f"artifact {name} is damaged: predictions.parquet is not the file that was written" in refusal()
    table.write_bytes(original)

    manifest = (ceiling / "manifest.json").read_bytes()
    (ceiling / "manifest.json").write_bytes(manifest[: len(manifest) // 2])
    line = refusal()
    assert f"artifact train/{ceiling.name} has no readable manifest; delete {ceiling} to make it" in line
    (ceiling / "manifest.json").write_bytes(manifest)

    # Weights are read, and then verified, only where something is still to be predicted.
    shard = max(
        (path for path in ceiling.glob("params/**/*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    content = shard.read_bytes()
    shard.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    pipeline.run(make_config(prepared, methods=("finetune",)), run_again)
    shutil.rmtree(evaluation)
    line = refusal()
    assert f"artifact train/{ceiling.name} is damaged: params/" in line and f"delete {ceiling}" in line


@pytest.mark.slow
@pytest.mark.ci
def test_weights_that_cannot_be_written(prepared, run_again, capsys, monkeypatch):
    """TensorStore tells of a full disk by a ValueError, and has written half of its files by then."""
    import orbax.checkpoint as ocp

    save = ocp.StandardCheckpointer.save

    def fail(checkpointer, folder, params):
        save(checkpointer, folder, params)
        checkpointer.wait_until_finished()
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write 9 bytes [os_error_code='28']")

    shutil.rmtree(stage_folder(run_again, "ceiling, seed 0"))
    kept = contents(run_again)
    monkeypatch.setattr(ocp.StandardCheckpointer, "save", fail)
    status, out, line = ending(make_config(prepared, methods=("finetune",)), run_again, capsys)
    assert status == 2 and "[1/1] ceiling, seed 0" in out
    assert "No space left on device" in line and "then run the same command again: finished stages" in line
    assert contents(run_again) == kept


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")]
)
def test_results_that_cannot_be_written(prepared, run_again, capsys, monkeypatch, error):
    before = (run_again / "results.json").read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    status, _, line = ending(make_config(prepared, methods=("finetune",)), run_again, capsys)
    assert status == 2 and error.strerror in line
    assert (run_again / "results.json").read_bytes() == before
    assert not list(run_again.glob(".results.json.*"))


def trained(workdir) -> list[str]:
    """Files of trained models; the few-shot answers, which come first, are kept whatever happens to these."""
    return [name for name in contents(workdir) if "/artifacts/train/" in str(name)]


@pytest.mark.slow
@pytest.mark.ci
def test_a_device_without_memory(prepared, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."
        )

    monkeypatch.setattr(fit, "fit", fail)
    status, _, line = ending(make_config(prepared), tmp_path / "run", capsys)
    assert (
        status == 2 and "weak, seed 0: the device is out of memory; lower training.micro_batch_size" in line
    )
    assert not trained(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.ci
def test_a_loss_that_is_not_finite(prepared, tmp_path, capsys):
    config = make_config(prepared, training__learning_rate=1e38)
    status, _, line = ending(config, tmp_path / "run", capsys)
    assert status == 2 and "weak, seed 0: loss nan" in line and "lower the learning rate" in line
    assert not trained(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.ci
def test_an_interrupt_leaves_the_finished_stages(prepared, run_again, capsys, monkeypatch):
    config = make_config(prepared, methods=("finetune",))
    records = json.loads((run_again / "results.json").read_text())["records"]
    ceiling = stage_folder(run_again, "ceiling, seed 0")
    for folder in (ceiling, *predictions_of(run_again, ceiling)):
        shutil.rmtree(folder)
    kept = contents(run_again)
    write = metrics_log.MetricsLog.write

    def interrupt(self, step, metrics, **options):
        write(self, step, metrics, **options)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(metrics_log.MetricsLog, "write", interrupt)
        status, out, line = ending(config, run_again, capsys)
    assert status == 130 and line == "error: interrupted; the same command goes on from what is saved\n"
    assert "[1/2] ceiling, seed 0" in out and contents(run_again) == kept

    report = pipeline.run(config, run_again)
    assert "7 stages" in (out := capsys.readouterr().out) and "2 to run" in out
    assert contents(run_again).items() >= kept.items() and report["records"] == records


def test_artifacts_are_read_below_a_folder_that_looks_like_a_partition(tmp_path):
    folder = tmp_path / "label=3"
    folder.mkdir()
    artifacts.write_table(folder / "table.parquet", {"label": [0, 1]})
    files = {"table.parquet": artifacts._hash_file(folder / "table.parquet")}
    table = artifacts.Artifact("test", "key", folder, files).read_table("table.parquet")
    assert table["label"].tolist() == [0, 1]
