"""A trained model of a run as a folder of its own: written, and read back without the run."""

import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp

from selw2s_jax import sharding
from selw2s_jax.data import prompts
from selw2s_jax.errors import UserError
from selw2s_jax.export import model_card
from selw2s_jax.hf import loader, peft, pretrained, tokenizers, weight_files, writer
from selw2s_jax.models import heads, lora
from selw2s_jax.run import manifests, student_models, students
from selw2s_jax.runtime import artifacts, places

FACTS_NAME = "student.json"


def read_numbers(student: students.Student) -> model_card.Numbers | None:
    """What the run's results say of a student; None where they are of an earlier config, or not there yet."""
    path, facts = student.folder / manifests.RESULTS_FILE, student.facts
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if student.artifact.key not in [entry["key"] for entry in report["manifest"]["students"]]:
            return None
        names = dict.fromkeys(("weak", "ceiling", facts.method))
        records = {
            r["method"]: r for r in report["records"] if r["seed"] == facts.seed and r["method"] in names
        }
        of_student = [r for r in report["p_ik"] if (r["seed"], r["method"]) == (facts.seed, facts.method)]
        p_ik = [r for r in of_student if "test_task" in r]  # runs of the first versions named no task
        return model_card.Numbers(records if facts.method in records else {}, p_ik)
    except (FileNotFoundError, KeyError):
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read; run the same config again to write it anew") from error


def save(
    student: students.Student,
    folder: pathlib.Path,
    *,
    dtype: str | None = None,
    adapters: str = "merged",
    tokenizer_folder: pathlib.Path | None = None,
    base: pathlib.Path | None = None,
) -> None:
    """Writes a student's backbone, heads, tokenizer files and model card as a folder: all of it, or nothing.

    Adapters are merged into the backbone, or written without it. By a single process.

    Args:
        folder: one that does not exist or is empty.
        dtype: of the weights; default as they were trained.
        adapters: "merged" or "apart", of a student that has some.
        tokenizer_folder, base: where the files of the tokenizer, and of a pretrained model of which only a part was
            trained, are; default where the run found them.

    Raises:
        UserError: the folder is not local, is not empty or cannot be written, the dtype is unknown, the student has no
            adapters to write apart, the tokenizer or the pretrained model is gone, or the student is damaged.
    """
    if "://" in os.fspath(folder):
        raise UserError(f"--output={folder} is not on this machine; give a local folder and copy it there")
    # Of a link to an empty folder the target is replaced.
    folder, facts = pathlib.Path(os.path.realpath(pathlib.Path(folder).expanduser())), student.facts
    _check_output(folder)
    dtype = dtype or facts.param_dtype
    writer.check_dtype(dtype)
    is_apart = _is_apart(facts, adapters)
    tokenizer = student_models.load_tokenizer(student, tokenizer_folder)
    card = model_card.format_card(
        facts,
        numbers=read_numbers(student),
        dtype=dtype,
        transformers_class=writer.TRANSFORMERS_CLASSIFIERS.get(student.config.family, (None,))[0],
        is_apart=is_apart,
    )
    mesh = sharding.mesh_for(student.config, None, may_fold=True)
    if is_apart:
        classifier = student_models.load_trained_parts(student, mesh=mesh)
    else:
        classifier = student_models.load(student, base=base, mesh=mesh, param_dtype=facts.param_dtype)

    def write(partial: pathlib.Path) -> None:
        options = {"dtype": dtype, "main_head": "class_head" if facts.has_class_head else "p_ik_head"}
        if is_apart:
            peft.save(partial, classifier, base=model_card.base_name(facts), **options)
        else:
            if classifier.adapters is not None:
                lora.merge(classifier)
            writer.save_classifier(partial, classifier, pad_token_id=tokenizer.pad_id, **options)
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


def _is_apart(facts: students.Facts, adapters: str) -> bool:
    if adapters not in ("merged", "apart"):
        raise UserError(f"--lora={adapters} is not one of: merged, apart")
    if adapters == "apart" and facts.lora is None:
        raise UserError(
            f"--lora=apart: {facts.method} has no adapters, as the run trained with training.trained={facts.trained}; "
            "leave the flag out"
        )
    return adapters == "apart"


def _check_output(folder: pathlib.Path) -> None:
    """Before the student is read."""
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--output={folder} is not empty; choose another folder, or remove it")
    places.check_output_folder(folder, "--output")
    if folder.is_dir():  # which is replaced as a whole
        places.check_output_folder(folder.parent, "--output")


def read_facts(folder: pathlib.Path) -> students.Facts:
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
        fields["shots"] = tuple((text, label) for text, label in fields["shots"])
        fields["few_shot"] = prompts.FewShot.from_json(fields.get("few_shot"))
        fields["lora"] = lora.make_settings(fields.get("trained", "all"), fields.get("lora"))
        return students.Facts(**fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be read; export the student again") from error


def load(
    folder: pathlib.Path,
    *,
    base: pathlib.Path | None = None,
    mesh: jax.sharding.Mesh | None = None,
    param_dtype: str | None = None,
    compute_dtype: str | None = None,
    remat: str = "full",
    attention: str = "xla",
) -> heads.Classifier:
    """The classifier of an exported folder, read into shards. Arguments as for `load`.

    Args:
        base: folder of the pretrained model, for adapters that were written apart; default as the run's config had it.

    Raises:
        UserError: it is no exported student, or a damaged one, or the pretrained model is gone.
    """
    folder = pathlib.Path(folder).expanduser()
    facts = read_facts(folder)
    is_apart = (folder / peft.CONFIG_NAME).is_file()
    if is_apart:
        base = loader.resolve(facts.base if base is None else base)
        student_models.check_base(base, facts.base_fingerprint, tokenizers.load_tokenizer(folder).fingerprint)
    else:  # the folder has all weights, as if all had been trained
        facts = dataclasses.replace(facts, trained="all", lora=None)
    settings = student_models.classifier_settings(
        facts,
        mesh=mesh,
        param_dtype=param_dtype,
        compute_dtype=compute_dtype,
        remat=remat,
        attention=attention,
    )
    backbone = loader.load_decoder(base if is_apart else folder, **settings.decoder_options)
    arrays = _read_heads(folder / writer.HEADS_NAME, backbone.config.embed_dim)
    settings = dataclasses.replace(settings, p_ik_head="p_ik_head" in arrays)
    classifier = pretrained.add_heads(backbone, settings)
    params = {name: getattr(classifier, name) for name in arrays}
    if is_apart:
        arrays |= peft.read(folder / peft.WEIGHTS_NAME, classifier)
        params |= peft.params(classifier)
    for name, param in params.items():
        layout = sharding.logical_sharding(settings.mesh, param.get_metadata()["axes"])
        param.set_value(sharding.put(arrays[name].astype(param.dtype), layout))
    return classifier


def _read_heads(path: pathlib.Path, embed_dim: int) -> dict[str, Any]:
    """The heads of an exported student by name, each [2, D]."""
    import safetensors

    remedy = "export the student again"
    if not path.is_file():
        raise UserError(f"{path} is missing; {remedy}")
    shapes = {name: info.shape for name, info in weight_files.read_header(path).items()}
    expected = dict.fromkeys(writer.HEADS[: len(shapes)], (heads.NUM_CLASSES, embed_dim))
    if not shapes or shapes != expected:
        raise UserError(f"{path} holds {shapes}, not {expected}; {remedy}")
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: jnp.asarray(file.get_tensor(name)) for name in shapes}
