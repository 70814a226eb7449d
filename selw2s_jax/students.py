"""Trained models of a run: found by workdir, task, method and seed, and built from what the run kept alone.

A manifest describes the models of its run (`describe_model`) and lists the trained ones (`entries`), so that neither
data nor the pretrained weights are needed to use them. The weak model and the ceiling are named as the methods "weak"
and "ceiling".
"""

import dataclasses
import difflib
import json
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from etils import epath
from flax import nnx

from selw2s_jax import artifacts, checkpointing, experiment, inputs, model_card, sharding
from selw2s_jax.data import prompts, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.hf import export, loader, tokenizers, weight_files
from selw2s_jax.method import registry as method_registry
from selw2s_jax.models import decoder, heads, registry

FACTS_NAME = "student.json"  # in an exported folder
_STAGE = "train"  # the kind of stage that makes them


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a trained model is, beside its weights.

    Attributes:
        task, method, seed: its name in the run.
        weak, strong: names of the run's models.
        role: which of them it was made from, "weak" or "strong".
        has_class_head, has_p_ik_head: whether these heads were trained.
        prompt: form of the classifier input, as `data.prompts.classifier_input` takes it, with the instruction
            and the solved problems (text, label) that the form needs.
        max_length: longest example, in tokens; longer ones are truncated from the left.
        openai_pooling: whether the last token is the last one with id != 0 (config key of that name).
        param_dtype, compute_dtype: of the run.
    """

    task: str
    method: str
    seed: int
    weak: str
    strong: str
    role: str
    has_class_head: bool
    has_p_ik_head: bool
    prompt: str
    instruction: str
    shots: tuple[tuple[str, int], ...]
    max_length: int
    openai_pooling: bool
    param_dtype: str
    compute_dtype: str

    @property
    def base(self) -> str:
        """The name of the model that it was made from."""
        return {"weak": self.weak, "strong": self.strong}[self.role]

    def classifier_input(self, text: str) -> str:
        """What the model reads for an example's text."""
        shots = [tasks.Example("", "", text, label) for text, label in self.shots]
        return prompts.classifier_input(text, prompt=self.prompt, instruction=self.instruction, shots=shots)


@dataclasses.dataclass(frozen=True)
class Student:
    """A trained model of a run that is finished.

    Attributes:
        workdir: of the run.
        config: sizes of its backbone.
        tokenizer_folder, tokenizer_fingerprint: of the tokenizer that it was trained with.
    """

    workdir: epath.Path
    facts: Facts
    artifact: artifacts.Artifact
    config: registry.ModelConfig
    tokenizer_folder: pathlib.Path
    tokenizer_fingerprint: str


def describe_model(model: inputs.Model, workdir: epath.PathLike) -> dict[str, Any]:
    """A model as the manifest has it. A folder in the workdir is given relative to it, so that it can be moved."""
    folder = os.path.abspath(model.tokenizer.files[0].parent)
    root = os.path.abspath(workdir)
    if folder.startswith(root + os.sep):
        folder = os.path.relpath(folder, root)
    return {
        "name": model.name,
        "fingerprint": model.fingerprint,
        "learning_rate": model.learning_rate,
        "max_length": model.max_length,
        "sizes": dataclasses.asdict(model.config),
        "tokenizer": {"folder": folder, "fingerprint": model.tokenizer.fingerprint},
    }


def entries(
    config: ml_collections.ConfigDict, found: inputs.Inputs, study: experiment.Experiment
) -> list[dict[str, Any]]:
    """The trained models of an experiment, finished or not, as the manifest lists them."""
    listed = []
    for seed in config.seeds:
        references = {"weak": study.weak, "ceiling": study.ceiling}
        for name in (*references, *config.methods):
            stage = references[name](seed) if name in references else study.student(seed, name)
            test = found.by_seed[seed].test
            reads_instruction, reads_shots = test.prompt != "bare", test.prompt == "fewshot"
            listed.append(
                {
                    "task": config.task,
                    "method": name,
                    "seed": seed,
                    "key": stage.key,
                    "role": "weak" if name == "weak" else "strong",
                    "has_class_head": name in references or method_registry.METHODS[name].task_weight > 0,
                    "prompt": test.prompt,
                    "instruction": test.instruction if reads_instruction else "",
                    "shots": [[shot.text, shot.label] for shot in test.shots] if reads_shots else [],
                }
            )
    return listed


def read_manifest(workdir: epath.Path) -> dict[str, Any]:
    """The manifest of the run in a workdir: of the one that was last started, or else last finished.

    Raises:
        UserError: no such workdir, no run in it, or a manifest that cannot be read.
    """
    if not workdir.is_dir():
        raise UserError(f"workdir {workdir} is not there; give the --workdir of a run")
    path = workdir / "manifest.json"
    if not path.is_file():
        path = workdir / "results.json"
    if not path.is_file():
        raise UserError(
            f"workdir {workdir} has no run in it; run python -m selw2s_jax.main --workdir={workdir} first"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        manifest = content if path.name == "manifest.json" else content["manifest"]
        complete = {"config", "models", "students"} <= manifest.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read; run the same config in {workdir} again to mend it"
        ) from error
    if not complete:
        raise UserError(
            f"{path} lists no students; run the same config in {workdir} again to have them listed"
        )
    return manifest


def find(workdir: epath.PathLike, *, task: str | None, method: str | None, seed: int | None) -> Student:
    """The trained model of that name.

    Raises:
        UserError: no such workdir, run, task, method or seed; not trained yet; or damaged.
    """
    workdir = epath.Path(workdir).expanduser()
    manifest = read_manifest(workdir)
    task = None if task is None else tasks.canonical_name(task)
    candidates = manifest["students"]
    for key, value in (("task", task), ("method", method), ("seed", seed)):
        known = list(dict.fromkeys(entry[key] for entry in candidates))
        if value not in known:
            raise UserError(_unknown(workdir, key, value, known))
        candidates = [entry for entry in candidates if entry[key] == value]
    (entry,) = candidates
    model = manifest["models"][entry["role"]]
    precision = manifest["config"]["precision"]
    artifact = _find_artifact(workdir, entry["key"], f"{method}, seed {seed}")
    facts = Facts(
        weak=manifest["models"]["weak"]["name"],
        strong=manifest["models"]["strong"]["name"],
        max_length=model["max_length"],
        has_p_ik_head=artifact.read_json("summary.json")["p_ik_head"],
        openai_pooling=manifest["config"]["compat"]["openai_pooling"],
        param_dtype=precision["param_dtype"],
        compute_dtype=precision["compute_dtype"],
        **{key: value for key, value in entry.items() if key not in ("key", "shots")},
        shots=tuple((text, label) for text, label in entry["shots"]),
    )
    return Student(
        workdir,
        facts,
        artifact,
        registry.ModelConfig(**model["sizes"]),
        pathlib.Path(os.path.join(workdir, model["tokenizer"]["folder"])),
        model["tokenizer"]["fingerprint"],
    )


def _unknown(workdir: epath.Path, key: str, value: Any, known: Sequence[Any]) -> str:
    there = f"the run in {workdir} has {', '.join(map(str, known))}"
    if value is None:
        return f"--{key} is missing: {there}"
    near = difflib.get_close_matches(str(value), map(str, known), n=1)
    hint = f"; did you mean --{key}={near[0]}?" if near else ""
    return f"--{key}={value} is not there: {there}{hint}"


def _find_artifact(workdir: epath.Path, key: str, label: str) -> artifacts.Artifact:
    path = workdir / "artifacts" / _STAGE / key
    if not (path / "manifest.json").is_file():
        raise UserError(
            f"{label} is not trained yet in {workdir}; run the same config there again, it continues"
        )
    try:
        recorded = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["inputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"artifact {_STAGE}/{key} has no readable manifest; delete {path} and run the same config again"
        ) from error
    artifact = artifacts.Store(workdir).find(_STAGE, recorded)
    if artifact is None or artifact.key != key:
        raise UserError(
            f"artifact {_STAGE}/{key} was made from other inputs than its name says; delete {path} and run the same "
            "config again"
        )
    return artifact


def load_tokenizer(student: Student, folder: pathlib.Path | None = None) -> tokenizers.Tokenizer:
    """The tokenizer that a student was trained with.

    Args:
        folder: where its files are now; default where they were then.

    Raises:
        UserError: they are not there, or are not those.
    """
    folder = student.tokenizer_folder if folder is None else pathlib.Path(folder).expanduser()
    remedy = "give the folder of the model's tokenizer files with --tokenizer"
    if not folder.is_dir():
        raise UserError(f"the tokenizer folder {folder} of {student.facts.base} is gone; {remedy}")
    tokenizer = tokenizers.load_tokenizer(folder)
    if tokenizer.fingerprint != student.tokenizer_fingerprint:
        raise UserError(
            f"the tokenizer in {folder} is not the one that {student.facts.method} was trained with; {remedy}"
        )
    return tokenizer


def load(
    student: Student,
    *,
    mesh: jax.sharding.Mesh | None = None,
    param_dtype: str | None = None,
    compute_dtype: str | None = None,
    remat: str = "full",
    attention: str = "xla",
) -> heads.Classifier:
    """A student's classifier, read from its artifact into shards.

    Args:
        mesh: default the first local device.
        param_dtype, compute_dtype: default those of the run.
        remat, attention: as for `decoder.Decoder`.

    Raises:
        UserError: the artifact is damaged, or the mesh does not divide the model.
    """
    mesh = sharding.single_device_mesh() if mesh is None else mesh
    sharding.check_divisible(mesh, student.config)
    folder = student.artifact.verified("params")

    def build() -> heads.Classifier:
        backbone = decoder.Decoder(
            student.config,
            param_dtype=param_dtype or student.facts.param_dtype,
            compute_dtype=compute_dtype or student.facts.compute_dtype,
            remat=remat,
            attention=attention,
            mesh=mesh,
            rngs=nnx.Rngs(0),
        )
        return heads.Classifier(backbone, p_ik_head=student.facts.has_p_ik_head)

    return checkpointing.load_module(folder, nnx.eval_shape(build), mesh)


def read_numbers(student: Student) -> model_card.Numbers | None:
    """What the run's results say of a student; None where they are of an earlier config, or not there yet."""
    path, facts = student.workdir / "results.json", student.facts
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if student.artifact.key not in [entry["key"] for entry in report["manifest"]["students"]]:
            return None
        names = dict.fromkeys(("weak", "ceiling", facts.method))
        records = {
            r["method"]: r for r in report["records"] if r["seed"] == facts.seed and r["method"] in names
        }
        p_ik = [r for r in report["p_ik"] if (r["seed"], r["method"]) == (facts.seed, facts.method)]
        return model_card.Numbers(records if facts.method in records else {}, p_ik)
    except (FileNotFoundError, KeyError):
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read; run the same config again to write it anew") from error


def save_exported(
    student: Student,
    folder: pathlib.Path,
    *,
    dtype: str | None = None,
    tokenizer_folder: pathlib.Path | None = None,
) -> None:
    """Writes a student's backbone, heads, tokenizer files and model card as a folder: all of it, or nothing.

    By a single process.

    Args:
        folder: one that does not exist or is empty.
        dtype: of the weights; default as they were trained.
        tokenizer_folder: where the tokenizer's files are; default where the run found them.

    Raises:
        UserError: the folder is not local, is not empty or cannot be written, the dtype is unknown, the tokenizer
            is gone, or the student is damaged.
    """
    if "://" in os.fspath(folder):
        raise UserError(f"--output={folder} is not on this machine; give a local folder and copy it there")
    folder, facts = pathlib.Path(folder).expanduser(), student.facts
    _check_output(folder)
    dtype = dtype or facts.param_dtype
    export.check_dtype(dtype)
    tokenizer = load_tokenizer(student, tokenizer_folder)
    card = model_card.format_card(
        facts,
        numbers=read_numbers(student),
        dtype=dtype,
        transformers_class=export.TRANSFORMERS_CLASSIFIERS.get(student.config.family, (None,))[0],
    )
    classifier = load(student, mesh=sharding.mesh_for(student.config, None, may_fold=True))

    def write(partial: pathlib.Path) -> None:
        main_head = "class_head" if facts.has_class_head else "p_ik_head"
        export.save_classifier(
            partial, classifier, dtype=dtype, pad_token_id=tokenizer.pad_id, main_head=main_head
        )
        for file in tokenizer.files:
            shutil.copyfile(file, partial / file.name)
        text = json.dumps(dataclasses.asdict(facts), indent=1, ensure_ascii=False)
        (partial / FACTS_NAME).write_text(text + "\n", encoding="utf-8")
        (partial / "README.md").write_text(card, encoding="utf-8")

    try:
        if folder.is_dir():
            folder.rmdir()
        artifacts.fill_once(folder, write)
    except OSError as error:
        raise UserError(
            f"--output={folder} cannot be written ({error.strerror}); choose another, or free space"
        ) from error


def _check_output(folder: pathlib.Path) -> None:
    """Before the student is read."""
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--output={folder} is not empty; choose another folder, or remove it")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output={folder} is a file; choose another folder")
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(
            f"--output={folder} cannot be written: {parent} is not a folder to write to; choose another"
        )


def read_facts(folder: pathlib.Path) -> Facts:
    """What the student of an exported folder is.

    Raises:
        UserError: it is no such folder.
    """
    folder = pathlib.Path(folder).expanduser()
    path = folder / FACTS_NAME
    if not path.is_file():
        raise UserError(
            f"{folder} is no exported student: it has no {FACTS_NAME}; make one with python -m selw2s_jax.export"
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Facts(**fields | {"shots": tuple((text, label) for text, label in fields["shots"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be read; export the student again") from error


def load_exported(
    folder: pathlib.Path,
    *,
    mesh: jax.sharding.Mesh | None = None,
    param_dtype: str | None = None,
    compute_dtype: str | None = None,
    remat: str = "full",
    attention: str = "xla",
) -> heads.Classifier:
    """The classifier of an exported folder, read into shards. Arguments as for `load`.

    Raises:
        UserError: it is no exported student, or a damaged one.
    """
    folder = pathlib.Path(folder).expanduser()
    facts = read_facts(folder)
    mesh = sharding.single_device_mesh() if mesh is None else mesh
    backbone = loader.load_decoder(
        folder,
        lm_head=False,
        param_dtype=param_dtype or facts.param_dtype,
        compute_dtype=compute_dtype or facts.compute_dtype,
        remat=remat,
        attention=attention,
        mesh=mesh,
    )
    arrays = _read_heads(folder / export.HEADS_NAME, backbone.config.embed_dim)
    graphdef, params = nnx.split(heads.Classifier(backbone, p_ik_head="p_ik_head" in arrays))
    for name, value in arrays.items():
        layout = sharding.logical_sharding(mesh, params[name].get_metadata()["axes"])
        params[name] = params[name].replace(sharding.put(value.astype(params[name].dtype), layout))
    return nnx.merge(graphdef, params)


def _read_heads(path: pathlib.Path, embed_dim: int) -> dict[str, Any]:
    """The heads of an exported student by name, each [2, D]."""
    import safetensors

    remedy = "export the student again"
    if not path.is_file():
        raise UserError(f"{path} is missing; {remedy}")
    shapes = {name: info.shape for name, info in weight_files.read_header(path).items()}
    expected = dict.fromkeys(export.HEADS[: len(shapes)], (heads.NUM_CLASSES, embed_dim))
    if not shapes or shapes != expected:
        raise UserError(f"{path} holds {shapes}, not {expected}; {remedy}")
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: jnp.asarray(file.get_tensor(name)) for name in shapes}
