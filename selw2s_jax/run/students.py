"""Trained models of a run: found by workdir, task, method and seed, and built from what the run kept alone.

A manifest describes the models of its run (`describe_model`) and lists the trained ones (`entries`), so that no data
is needed to use them, and the pretrained weights only where a part of them was not trained. The weak model and the
ceiling are named as the methods "weak" and "ceiling".
"""

import dataclasses
import difflib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from etils import epath
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.data import prompts, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import selective
from selw2s_jax.hf import loader, pretrained, tokenizers, weight_files
from selw2s_jax.method import registry as method_registry
from selw2s_jax.models import decoder, heads, registry
from selw2s_jax.models import lora as lora_lib
from selw2s_jax.run import manifests
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import stage as stages_lib
from selw2s_jax.training import state

_STAGE = "train"  # the kind of stage that makes them


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a trained model is, beside its weights.

    Attributes:
        task, method, seed: its name in the run.
        weak, strong: names of the run's models; the former "" in a run that has none.
        role: which of them it was made from, "weak" or "strong".
        has_class_head, has_p_ik_head: whether these heads were trained.
        prompt: form of the classifier input, as `data.prompts.classifier_input` takes it, with the instruction
            and the solved problems (text, answer) that the form needs.
        max_length: longest example, in tokens; longer ones are truncated from the left.
        openai_pooling: whether the last token is the last one with id != 0 (config key of that name).
        param_dtype, compute_dtype: of the run.
        trained: what of the model was trained, of `training.state.TRAINED`.
        lora: how its weights were adapted, None where they were not.
        base_fingerprint: of the pretrained model, as `pretrained.Model` has it.
        few_shot: what the language model was asked; None in a run of an earlier version.
        is_plain_text: whether the task's questions are texts, which no question and answer are made into.
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
    shots: tuple[tuple[str, int | str], ...]
    max_length: int
    openai_pooling: bool
    param_dtype: str
    compute_dtype: str
    trained: str = "all"
    lora: lora_lib.Settings | None = None
    base_fingerprint: str = ""
    few_shot: prompts.FewShot | None = None
    is_plain_text: bool = False

    @property
    def base(self) -> str:
        """The name of the model that it was made from."""
        return {"weak": self.weak, "strong": self.strong}[self.role]

    def classifier_input(self, text: str) -> str:
        """What the model reads for an example's text."""
        return prompts.classifier_input(
            text, prompt=self.prompt, instruction=self.instruction, shots=prompts.solved_problems(self.shots)
        )


@dataclasses.dataclass(frozen=True)
class Student:
    """A trained model of a run that is finished.

    Attributes:
        workdir: of the run.
        folder: of the run's results, that of a cell in a sweep.
        config: sizes of its backbone.
        tokenizer_folder, tokenizer_fingerprint: of the tokenizer that it was trained with.
        base_folder: of the pretrained model; None in a run of an earlier version, which trained all.
        run_config: the config of its run, as JSON values.
    """

    workdir: epath.Path
    folder: epath.Path
    facts: Facts
    artifact: artifacts.Artifact
    config: registry.ModelConfig
    tokenizer_folder: pathlib.Path
    tokenizer_fingerprint: str
    base_folder: pathlib.Path | None
    run_config: dict[str, Any]


def describe_model(model: pretrained.Model, workdir: epath.PathLike) -> dict[str, Any]:
    """A model as the manifest has it. A folder in the workdir is given relative to it, so that it can be moved."""
    root = os.path.abspath(workdir)

    def describe(folder: os.PathLike) -> str:
        folder = os.path.abspath(folder)
        return os.path.relpath(folder, root) if folder.startswith(root + os.sep) else folder

    return {
        "name": model.name,
        "folder": describe(model.folder),
        "fingerprint": model.fingerprint,
        "learning_rate": model.learning_rate,
        "max_length": model.max_length,
        "sizes": dataclasses.asdict(model.config),
        "tokenizer": {
            "folder": describe(model.tokenizer.files[0].parent),
            "fingerprint": model.tokenizer.fingerprint,
        },
    }


def entries(
    config: ml_collections.ConfigDict, found: stages_lib.Inputs, study: selective.Experiment
) -> list[dict[str, Any]]:
    """The trained models of an experiment, finished or not, as the manifest lists them."""
    listed = []
    references = {"weak": study.weak, "ceiling": study.ceiling}
    references = {name: stage for name, stage in references.items() if name in study.classifiers()}
    for seed in config.seeds:
        test = found.by_seed[seed].test
        reads_instruction, reads_shots = test.prompt != "bare", test.prompt == "fewshot"
        few_shot = prompts.FewShot.of(test.task, test.shots)
        for name in (*references, *config.methods):
            stage = references[name](seed) if name in references else study.student(seed, name)
            listed.append(
                {
                    "task": config.task,
                    "method": name,
                    "seed": seed,
                    "key": stage.key,
                    "role": "weak" if name == "weak" else "strong",
                    "has_class_head": name in references or method_registry.METHODS[name].task_weight > 0,
                    "prompt": test.prompt,
                    "instruction": test.task.instruction if reads_instruction else "",
                    "shots": [list(shot) for shot in few_shot.shots] if reads_shots else [],
                    "few_shot": dataclasses.asdict(few_shot),
                    "is_plain_text": test.task.format is tasks.format_text,
                }
            )
    return listed


def find(
    workdir: epath.PathLike,
    *,
    task: str | None,
    method: str | None,
    seed: int | None,
    run: str | None = None,
) -> Student:
    """The trained model of that name.

    Args:
        run: of a sweep, where several have such a model.

    Raises:
        UserError: no such workdir, run, task, method or seed; not trained yet; or damaged.
    """
    workdir = epath.Path(workdir).expanduser()
    by_run = manifests.read_all(workdir)
    task = None if task is None else tasks.canonical_name(task)
    candidates = [entry | {"run": name} for name, found in by_run.items() for entry in found["students"]]
    named = {"task": task, "method": method, "seed": seed} | ({} if run is None else {"run": run})
    for key, value in named.items():
        known = list(dict.fromkeys(entry[key] for entry in candidates))
        if value not in known:
            raise UserError(_unknown(workdir, key, value, known))
        candidates = [entry for entry in candidates if entry[key] == value]
    if len({entry["key"] for entry in candidates}) > 1:
        raise UserError(_unknown(workdir, "run", None, [entry["run"] for entry in candidates]))
    entry = candidates[0]
    name = entry.pop("run")
    manifest = by_run[name]
    model = manifest["models"][entry["role"]]
    config = manifest["config"]
    trained = config["training"].get("trained", "all")
    artifact = _find_artifact(workdir, entry["key"], f"{method}, seed {seed}")
    facts = Facts(
        weak=manifest["models"].get("weak", {}).get("name", ""),
        strong=manifest["models"]["strong"]["name"],
        max_length=model["max_length"],
        has_p_ik_head=artifact.read_json("summary.json")["p_ik_head"],
        openai_pooling=config["compat"]["openai_pooling"],
        param_dtype=config["precision"]["param_dtype"],
        compute_dtype=config["precision"]["compute_dtype"],
        trained=trained,
        lora=lora_lib.make_settings(trained, config.get("lora", {})),
        base_fingerprint=model["fingerprint"],
        **{key: value for key, value in entry.items() if key not in ("key", "shots", "few_shot")},
        shots=tuple((text, label) for text, label in entry["shots"]),
        few_shot=prompts.FewShot.from_json(entry.get("few_shot")),
    )
    return Student(
        workdir,
        workdir / manifests.RUNS_FOLDER / name if name else workdir,
        facts,
        artifact,
        registry.ModelConfig(**model["sizes"]),
        pathlib.Path(os.path.join(workdir, model["tokenizer"]["folder"])),
        model["tokenizer"]["fingerprint"],
        pathlib.Path(os.path.join(workdir, model["folder"])) if "folder" in model else None,
        config,
    )


def find_weak(student: Student) -> Student | None:
    """The weak model of a student's run and seed; None in a run that has none.

    Raises:
        UserError: it is not trained yet, or damaged.
    """
    facts = student.facts
    if not facts.weak:
        return None
    run = None if student.folder == student.workdir else student.folder.name
    return find(student.workdir, task=facts.task, method="weak", seed=facts.seed, run=run)


def _unknown(workdir: epath.Path, key: str, value: Any, known: Sequence[Any]) -> str:
    there = f"the run in {workdir} has {', '.join(map(str, known))}"
    if value is None:
        return f"--{key} is missing: {there}"
    near = difflib.get_close_matches(str(value), map(str, known), n=1)
    hint = f"; did you mean --{key}={near[0]}?" if near else ""
    return f"--{key}={value} is not there: {there}{hint}"


def _find_artifact(workdir: epath.Path, key: str, label: str) -> artifacts.Artifact:
    artifact = artifacts.Store(workdir).find_by_key(_STAGE, key)
    if artifact is None:
        raise UserError(
            f"{label} is not trained yet in {workdir}; run the same config there again, it continues"
        )
    return artifact


def load_tokenizer(
    student: Student, folder: pathlib.Path | None = None, *, flag: str = "--tokenizer"
) -> tokenizers.Tokenizer:
    """The tokenizer that a student was trained with.

    Args:
        folder: where its files are now; default where they were then.
        flag: that gives the folder.

    Raises:
        UserError: they are not there, or are not those.
    """
    folder = student.tokenizer_folder if folder is None else pathlib.Path(folder).expanduser()
    remedy = f"give the folder of the model's tokenizer files with {flag}"
    if not folder.is_dir():
        raise UserError(f"the tokenizer folder {folder} of {student.facts.base} is gone; {remedy}")
    tokenizer = tokenizers.load_tokenizer(folder)
    if tokenizer.fingerprint != student.tokenizer_fingerprint:
        raise UserError(
            f"the tokenizer in {folder} is not the one that {student.facts.method} was trained with; {remedy}"
        )
    return tokenizer


def find_base(
    student: Student, folder: pathlib.Path | None = None, *, use: str | None = None, flag: str = "--base"
) -> pathlib.Path:
    """The folder of the pretrained model that a student was made from.

    Args:
        folder: where its files are now; default where they were then.
        use: what it is needed for; default that the student has parts of it.
        flag: that gives the folder.

    Raises:
        UserError: they are not there, or are not those.
    """
    folder = student.base_folder if folder is None else pathlib.Path(folder).expanduser()
    facts = student.facts
    if folder is None or not folder.is_dir():
        where = f"the folder {folder} of {facts.base}" if folder else f"the folder of {facts.base}"
        use = use or f"of which {facts.method} trained a part"
        raise UserError(f"{where}, {use}, is gone; give the folder of the pretrained model with {flag}")
    check_base(
        folder,
        facts.base_fingerprint,
        student.tokenizer_fingerprint,
        student.workdir / ".cache",
        flag=flag,
    )
    return folder


def check_base(
    folder: pathlib.Path, fingerprint: str, tokenizer_fingerprint: str, cache_dir=None, *, flag="--base"
) -> None:
    """Raises a UserError unless a folder holds the pretrained model of that fingerprint (`pretrained.Model`)."""
    # A model that the run made itself is known by the key of its stage, which its folder is named after.
    known = (folder.name, weight_files.fingerprint(folder, cache_dir=cache_dir))
    if fingerprint not in [artifacts.content_hash([name, tokenizer_fingerprint]) for name in known]:
        raise UserError(
            f"the model in {folder} is not the one that the student was made from; give the folder of that with {flag}"
        )


def load(
    student: Student,
    *,
    base: pathlib.Path | None = None,
    mesh: jax.sharding.Mesh | None = None,
    param_dtype: str | None = None,
    compute_dtype: str | None = None,
    remat: str = "full",
    attention: str = "xla",
) -> heads.Classifier:
    """A student's classifier, read into shards from its artifact, and from the pretrained model what was not trained.

    Args:
        base: folder of the pretrained model, where it is needed; default where the run found it.
        mesh: default the first local device.
        param_dtype, compute_dtype: default those of the run, which held what it did not train in the latter.
        remat, attention: as for `decoder.Decoder`.

    Raises:
        UserError: the artifact is damaged, the pretrained model is gone, or the mesh does not divide the model.
    """
    facts = student.facts
    mesh = sharding.single_device_mesh() if mesh is None else mesh
    options = {
        "param_dtype": param_dtype or (facts.param_dtype if facts.trained == "all" else facts.compute_dtype),
        "compute_dtype": compute_dtype or facts.compute_dtype,
        "remat": remat,
        "attention": attention,
        "mesh": mesh,
    }

    def load_pretrained() -> heads.Classifier:
        backbone = loader.load_decoder(find_base(student, base), lm_head=False, **options)
        return _add_heads(backbone, facts, param_dtype)

    return _load(student, load_pretrained, mesh, param_dtype, options)


def load_trained_parts(student: Student, *, mesh: jax.sharding.Mesh) -> heads.Classifier:
    """A student's classifier with arrays for what was trained, and for the rest shapes; as `load`.

    Raises:
        UserError: the artifact is damaged, or the mesh does not divide the model.
    """
    dtype = student.facts.compute_dtype
    options = {"param_dtype": dtype, "compute_dtype": dtype, "mesh": mesh}
    return _load(student, lambda: _abstract(student, None, options), mesh, None, options)


def _load(
    student: Student, load_pretrained, mesh: jax.sharding.Mesh, param_dtype, options
) -> heads.Classifier:
    sharding.check_divisible(mesh, student.config)
    folder = student.artifact.verified("params")
    abstract = _abstract(student, param_dtype, options)
    return state.load_trained(folder, abstract, student.facts.trained, load_pretrained, mesh)


def _abstract(student: Student, param_dtype, options) -> heads.Classifier:
    def build() -> heads.Classifier:
        backbone = decoder.Decoder(student.config, rngs=nnx.Rngs(0), **options)
        return _add_heads(backbone, student.facts, param_dtype)

    return nnx.eval_shape(build)


def _add_heads(backbone: decoder.Decoder, facts: Facts, param_dtype) -> heads.Classifier:
    return heads.Classifier(
        backbone,
        p_ik_head=facts.has_p_ik_head,
        adapters=facts.lora,
        param_dtype=param_dtype or facts.param_dtype,
    )
