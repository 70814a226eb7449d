"""A student as a Hugging Face folder: what is in it, who reads it, and what may go wrong. As a script: see `main`."""

import dataclasses
import errno
import functools
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures import make_parity
from flax import nnx
from safetensors.numpy import load_file
from support import commands, marks, mesh_models, small_run, student_facts, training_parts

from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.export import __main__ as export_command
from selw2s_jax.export import exports, model_card
from selw2s_jax.hf import loader, random_checkpoint, tokenizers, upload, writer
from selw2s_jax.models import heads
from selw2s_jax.run import student_models, students
from selw2s_jax.runtime import distributed
from selw2s_jax.training import state, step

FLOAT32 = {"param_dtype": "float32", "compute_dtype": "float32"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return small_run.workdir(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def student(finished):
    return students.find(finished, task="sciq", method="selective", seed=0)


@pytest.fixture(scope="module")
def exported(student, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("export") / "deep" / "student"
    exports.save(student, folder)
    return folder


@pytest.fixture
def copy(exported, tmp_path) -> pathlib.Path:
    """A copy of the exported folder, free to be damaged."""
    return shutil.copytree(exported, tmp_path / "copy")


def assert_equal_params(actual, expected, convert=lambda x: x) -> None:
    actual, expected = nnx.state(actual), nnx.state(expected)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        theirs = convert(theirs)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


_train_steps = {}


@functools.cache
def make_trained(folder: pathlib.Path, family: str) -> heads.Classifier:
    """A checkpoint with both heads, after a few steps of `selective`; only to be read."""
    num_steps = 3
    backbone = loader.load_decoder(folder, lm_head=False, **FLOAT32)
    classifier = heads.Classifier(backbone, p_ik_head=True)
    data = training_parts.make_data(make_parity.CONFIGS[family], "selective", num_steps=num_steps)
    settings = state.OptimizerSettings(3e-3, num_steps)
    graphdef, train_state, shardings = state.start(classifier, settings, backbone.mesh)
    if family not in _train_steps:
        computation = training_parts.make_computation("selective")
        _train_steps[family] = step.make_train_step(
            graphdef, computation, settings, mesh=backbone.mesh, state_shardings=shardings
        )
    for k in range(num_steps):
        batch = batches.device_batch(data.batch_at(k), backbone.mesh)
        train_state, *_ = _train_steps[family](train_state, batch)
    return nnx.merge(graphdef, train_state.params, train_state.frozen)


def write_student_json(folder, facts=student_facts.FACTS) -> None:
    (folder / exports.FACTS_NAME).write_text(json.dumps(dataclasses.asdict(facts)))


# The folder of a run's student.


def test_the_folder_has_all_and_nothing_beside_it(student, exported):
    tokenizer = student_models.load_tokenizer(student)
    names = {path.name for path in exported.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "heads.safetensors",
        "model.safetensors",
        "model.safetensors.index.json",
        "student.json",
        *(file.name for file in tokenizer.files),
    }
    assert [path.name for path in exported.parent.iterdir()] == ["student"]
    for file in tokenizer.files:
        if file.name != "tokenizer_config.json":
            assert (exported / file.name).read_bytes() == file.read_bytes()
    settings = json.loads((exported / "tokenizer_config.json").read_text())
    assert settings["pad_token"] == "<|endoftext|>"
    assert tokenizers.load_tokenizer(exported).pad_id == tokenizer.pad_id
    assert exports.read_facts(exported) == student.facts
    keys = load_file(exported / "model.safetensors").keys()
    assert {key for key in keys if not key.startswith("transformer.")} == {"score.weight"}


def test_read_back_bit_for_bit(student, exported):
    assert_equal_params(exports.load(exported), student_models.load(student))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrower_weights_are_rounded_once(student, tmp_path, dtype):
    exports.save(student, tmp_path / "out", dtype=dtype)
    assert_equal_params(
        exports.load(tmp_path / "out", param_dtype=dtype),
        student_models.load(student),
        convert=lambda x: x.astype(dtype),
    )
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == dtype


def test_the_card_has_the_numbers_of_the_run(finished, exported):
    card = (exported / "README.md").read_text()
    report = json.loads((finished / "results.json").read_text())
    for record in report["records"]:
        interval = f"{100 * record['accuracy_low']:.2f} to {100 * record['accuracy_high']:.2f}"
        assert f"| `{record['method']}` | {100 * record['accuracy']:.2f} | {interval} | " in card
        assert f"{record['correct']} of {record['n']}" in card
    assert "2511.14166" in card and "AutoModelForSequenceClassification" in card and "licence" in card
    assert str(finished) not in card and str(exported) not in card
    assert "The questions were generated" in card


def test_results_of_another_config_are_not_the_students(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    student = students.find(run, task="sciq", method="selective", seed=0)
    assert set(exports.read_numbers(student).records) == {"weak", "ceiling", "selective"}
    report = json.loads((run / "results.json").read_text())
    manifest = report["manifest"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    for entry in manifest["students"]:
        entry["key"] = "another"
    (run / "results.json").write_text(json.dumps(report))
    assert exports.read_numbers(student) is None
    (run / "results.json").unlink()
    assert exports.read_numbers(student) is None
    (run / "results.json").write_text("{")
    with pytest.raises(UserError, match=r"results\.json cannot be read; run the same config again"):
        exports.read_numbers(student)


def test_an_empty_folder_is_filled(student, tmp_path):
    exports.save(student, tmp_path)
    assert (tmp_path / "config.json").is_file()


def test_outputs_that_cannot_be_written_are_refused(student, exported, tmp_path):
    (tmp_path / "file").write_text("")
    for output, message in (
        (exported, "is not empty; choose another folder"),
        (tmp_path / "file", "is a file; choose another folder"),
        (tmp_path / "file" / "below", "cannot be written: .*file is not a folder to write to"),
    ):
        with pytest.raises(UserError, match=f"--output={re.escape(str(output))} {message}"):
            exports.save(student, output)
    with pytest.raises(UserError, match="--output=gs://bucket/out is not on this machine; give a local"):
        exports.save(student, "gs://bucket/out")
    with pytest.raises(UserError, match="dtype 'int8' cannot be written: choose float32"):
        exports.save(student, tmp_path / "out", dtype="int8")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault_at", ["heads", "model", "tokenizer", "end"])
def test_a_failed_write_leaves_nothing(student, tmp_path, monkeypatch, fault_at):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = {
        "heads": (writer, "save_tensors"),
        "model": (writer, "_write_chunks"),
        "tokenizer": (exports.shutil, "copyfile"),
        "end": (pathlib.Path, "rename"),
    }[fault_at]
    monkeypatch.setattr(*target, fail)
    with pytest.raises(UserError, match=r"--output=\S+ cannot be written \(No space left on device\)"):
        exports.save(student, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "student.json").unlink(), "is no exported student: it has no student.json; make one"),
        (lambda f: (f / "student.json").write_text("[]"), "student.json cannot be read; export the student"),
        (lambda f: (f / "student.json").write_text("{}"), "student.json cannot be read; export the student"),
        (lambda f: (f / "heads.safetensors").unlink(), "heads.safetensors is missing; export the student"),
        (
            lambda f: (f / "heads.safetensors").write_bytes(b"x" * 99),
            "heads.safetensors is not a safetensors",
        ),
        (lambda f: shutil.copy(f / "model.safetensors", f / "heads.safetensors"), "holds .*; export the"),
        (lambda f: (f / "model.safetensors").unlink(), "lacks model.safetensors"),
    ],
    ids=[
        "no facts",
        "facts no object",
        "facts empty",
        "no heads",
        "heads garbage",
        "heads others",
        "no model",
    ],
)
def test_a_damaged_folder_is_refused(copy, damage, message):
    damage(copy)
    with pytest.raises(UserError, match=message) as info:
        exports.load(copy)
    assert "\n" not in str(info.value)


def test_the_command(finished, exported, tmp_path, monkeypatch):
    name = (f"--workdir={finished}", "--task=sciq", "--method=selective", "--seed=0")
    asked = []
    monkeypatch.setattr(upload, "create", lambda *given, **named: asked.append((given, named)))
    monkeypatch.setattr(upload, "send", lambda *given, **named: asked.append((given, named)) or "the page")
    ended = commands.call(export_command.main, *name, "--output=out", "--push_to_hub=me/it", cwd=tmp_path)
    assert asked == [
        (("me/it",), {"private": True}),
        ((pathlib.Path("out"), "me/it"), {"message": "selective on sciq, seed 0, by selw2s_jax"}),
    ]
    assert "sent to the page" in ended.stdout and "note" not in ended.stdout
    assert ended.returncode == 0 and ended.stderr == "", ended
    assert "selective on sciq, seed 0, is in out; its README.md says how to load it" in ended.stdout
    for path in exported.iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


@pytest.mark.slow
@pytest.mark.ci
def test_the_command_as_a_process_says_one_line(finished, exported, tmp_path):
    name = (f"--workdir={finished}", "--task=sciq", "--method=selective", "--seed=0")
    ended = commands.process("export", *name, "--output=out", cwd=tmp_path)
    assert ended.returncode == 0 and ended.stderr == "" and ended.stdout.count("\n") == 1, ended
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in exported.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=out"], "--workdir is missing"),
        (["--workdir=absent"], "--output is missing"),
        (["--workdir=absent", "--output=out", "--public"], "--public goes with --push_to_hub"),
        (["--workdir=absent", "--output=out", "--push_to_hub=it"], "--push_to_hub=it is no owner/name"),
        (["--workdir=absent", "--output=out"], "workdir absent is not there"),
        (["--workdir=absent", "--seed=x"], "--seed"),
        (["--wrkdir=x"], "Unknown command line flag 'wrkdir'"),
        (["more"], "argument 'more' is not understood"),
    ],
)
def test_a_wrong_command_is_one_line(tmp_path, arguments, message):
    ended = commands.call(export_command.main, *arguments, cwd=tmp_path)
    commands.assert_refused(ended, message)
    assert not list(tmp_path.iterdir())


# The layout of the files, of both families.


@pytest.mark.parametrize("family", ["gpt2", "qwen"])
def test_an_untrained_backbone_is_the_checkpoint_it_came_from(tmp_path, family):
    config = make_parity.CONFIGS[family]
    random_checkpoint.write_random_checkpoint(tmp_path / "original", config, seed=5)
    backbone = loader.load_decoder(tmp_path / "original", lm_head=False, **FLOAT32)
    classifier = heads.Classifier(backbone, p_ik_head=False)
    writer.save_classifier(tmp_path / "out", classifier, pad_token_id=7)
    original = load_file(tmp_path / "original" / "model.safetensors")
    written = load_file(tmp_path / "out" / "model.safetensors")
    added = {"gpt2": {"score.weight"}, "qwen": set()}[family]
    assert written.keys() - original.keys() == added
    assert original.keys() - written.keys() == {"gpt2": set(), "qwen": {"lm_head.weight"}}[family]
    for key in written.keys() - added:
        np.testing.assert_array_equal(written[key], original[key])
    (head,) = load_file(tmp_path / "out" / "heads.safetensors").values()
    assert head.shape == (2, config.embed_dim) and not head.any()
    assert loader.read_model_config(tmp_path / "out") == config
    fields = json.loads((tmp_path / "out" / "config.json").read_text())
    if family == "gpt2":
        assert fields["architectures"] == ["GPT2ForSequenceClassification"] and fields["pad_token_id"] == 7
        assert fields["id2label"] == {"0": "0", "1": "1"}


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        marks.in_ci("gpt2", "float32"),
        ("qwen", "bfloat16"),
        marks.in_ci("gpt2", "bfloat16"),
        marks.in_ci("qwen", "float32"),
    ],
)
def test_both_families_come_back(fixtures, tmp_path, family, dtype):
    classifier = make_trained(fixtures / f"parity_{family}", family)
    assert np.any(classifier.class_head[...]) and np.any(classifier.p_ik_head[...])
    writer.save_classifier(tmp_path, classifier, dtype=dtype, pad_token_id=0)
    write_student_json(tmp_path)
    back = exports.load(tmp_path)
    assert_equal_params(back, classifier, lambda x: x.astype(dtype).astype(jnp.float32))


def test_p_ik_alone_is_what_transformers_classifies(fixtures, tmp_path):
    classifier = training_parts.make_classifier(fixtures, "gpt2", p_ik_head=True)
    writer.save_classifier(tmp_path, classifier, pad_token_id=0, main_head="p_ik_head")
    written = load_file(tmp_path / "model.safetensors")["score.weight"]
    np.testing.assert_array_equal(written, classifier.p_ik_head[...])
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["id2label"] == {"0": "IDK", "1": "IK"} and fields["label2id"] == {"IDK": 0, "IK": 1}


@pytest.mark.torch
def test_torch_to_ours_to_torch(tmp_path):
    """Class and P(IK) logits of a trained student, padded on the right, within 1e-5 in float32."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    import transformers

    config = make_parity.GPT2_CONFIG
    torch.manual_seed(2)
    original = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_layer=config.num_layers,
            n_embd=config.embed_dim,
            n_head=config.num_heads,
            n_inner=config.mlp_dim,
            n_positions=config.max_seq_len,
            vocab_size=config.vocab_size,
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    original.save_pretrained(tmp_path / "original", safe_serialization=True)
    classifier = make_trained(tmp_path / "original", "gpt2")
    pad_id = 5
    writer.save_classifier(tmp_path / "out", classifier, pad_token_id=pad_id)
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", attn_implementation="eager", output_loading_info=True
    )
    assert type(model) is transformers.GPT2ForSequenceClassification
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))

    rng = np.random.default_rng(0)
    lengths = np.array([1, 4, 11, config.max_seq_len])
    tokens = rng.integers(pad_id + 1, config.vocab_size, (len(lengths), config.max_seq_len), dtype=np.int32)
    tokens[np.arange(config.max_seq_len) >= lengths[:, None]] = pad_id
    rows, last = np.arange(len(lengths), dtype=np.int32), (lengths - 1).astype(np.int32)
    ours = classifier(tokens, None, None, rows, last)
    p_ik_head = torch.from_numpy(load_file(tmp_path / "out" / "heads.safetensors")["p_ik_head"])
    with torch.no_grad():
        ids = torch.from_numpy(tokens).long()
        class_logits = model.eval()(ids).logits
        hidden = model.transformer(ids).last_hidden_state[torch.from_numpy(rows), torch.from_numpy(last)]
    assert np.abs(ours.class_logits).max() > 0.01 and np.abs(ours.p_ik_logits).max() > 0.01
    np.testing.assert_allclose(class_logits, ours.class_logits, rtol=0, atol=1e-5)
    np.testing.assert_allclose(hidden @ p_ik_head.T, ours.p_ik_logits, rtol=0, atol=1e-5)


# Where the pretrained model is.


@pytest.mark.parametrize(
    ("name", "folder", "origin"),
    [
        (
            "gpt2",
            "/cache/models--openai-community--gpt2/snapshots/607a",
            ("openai-community/gpt2", "607a", None),
        ),
        ("a/b-c", "/cache/hub/models--a--b-c/snapshots/123", ("a/b-c", "123", None)),
        ("gpt2", "/runs/gpt2", (None, None, "/runs/gpt2")),  # a folder of that name where the run was started
        ("openai-community/gpt2", "/runs/openai-community/gpt2", (None, None, "/runs/openai-community/gpt2")),
        (
            "/runs/models--a--b/snapshots/1",
            "/runs/models--a--b/snapshots/1",
            (None, None, "/runs/models--a--b/snapshots/1"),
        ),
        (
            "gpt2",
            "/copied/models--other--gpt2/snapshots/1",
            (None, None, "/copied/models--other--gpt2/snapshots/1"),
        ),
        ("gpt2", None, (None, None, None)),
    ],
)
def test_a_pretrained_model_is_of_the_hub_only_where_it_came_from_there(student, name, folder, origin):
    made = dataclasses.replace(
        student,
        facts=dataclasses.replace(student.facts, strong=name),
        base_folder=None if folder is None else pathlib.Path(folder),
    )
    assert exports._origin(made, None) == model_card.Origin(*origin)


# Several processes.


def main(port: str, process_id: str, folder: str) -> None:
    """One of two processes of two devices each that export one classifier together."""
    distributed.start(
        "on", coordinator_address=f"localhost:{port}", num_processes=2, process_id=int(process_id)
    )
    config = mesh_models.CONFIGS["qwen"]
    mesh = sharding.make_mesh((1, 2, 2))
    backbone = loader.load_decoder(pathlib.Path(folder) / "original", lm_head=False, mesh=mesh, **FLOAT32)
    assert backbone.config == config and not backbone.wte[...].is_fully_addressable
    writer.save_checkpoint(pathlib.Path(folder) / "out", config, backbone, dtype="bfloat16", index=True)
    if distributed.is_main():  # as on a full disk, while the other process knows nothing of it
        writer._write_chunks = lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space"))
    try:
        writer.save_checkpoint(pathlib.Path(folder) / "failed", config, backbone)
    except UserError as error:
        (pathlib.Path(folder) / f"error-{process_id}").write_text(str(error))


@pytest.mark.slow
def test_two_processes_write_what_one_does(tmp_path):
    config = mesh_models.CONFIGS["qwen"]
    random_checkpoint.write_random_checkpoint(tmp_path / "original", config, seed=6)
    backbone = loader.load_decoder(tmp_path / "original", lm_head=False, **FLOAT32)
    writer.save_checkpoint(tmp_path / "single", config, backbone, dtype="bfloat16", index=True)
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = str(found.getsockname()[1])
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": commands.xla_flags(2)}
    environment = os.environ | flags | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes = [
        subprocess.Popen([sys.executable, __file__, port, str(i), str(tmp_path)], env=environment)
        for i in (0, 1)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    names = {path.name for path in (tmp_path / "single").iterdir()}
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "single" / name).read_bytes()
    errors = {(tmp_path / f"error-{i}").read_text() for i in (0, 1)}
    assert len(errors) == 1 and "no space" in errors.pop()


if __name__ == "__main__":
    main(*sys.argv[1:])
