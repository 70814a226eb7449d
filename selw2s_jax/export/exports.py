"""A trained model of a run as a folder of its own: written, and read back without the run."""

import dataclasses
import json
import os
import pathlib
import shutil

import jax
from flax import nnx

from selw2s_jax import errors, sharding
from selw2s_jax.data import more_tasks, tasks, written_tasks  # noqa: F401, the first registers tasks
from selw2s_jax.errors import UserError
from selw2s_jax.export import classifiers, form, model_card, written
from selw2s_jax.hf import loader, model_folders, peft, tokenizers, weight_files, writer
from selw2s_jax.models import lora, registry
from selw2s_jax.run import manifests, student_models, students
from selw2s_jax.runtime import artifacts, places
from selw2s_jax.worlds import smoke

FACTS_NAME = "student.json"
_FORMS = {"class_head": classifiers.FORM, "completion": written.FORM}


def read_numbers(student: students.Student) -> model_card.Numbers | None:
    """What the run's results say of a student; None where they are of an earlier config, or not there yet."""
    path, facts = student.folder / manifests.RESULTS_FILE, student.facts
    try:
        report = errors.parse_json(path.read_text(encoding="utf-8"))
        if student.artifact.key not in [entry["key"] for entry in report["manifest"]["students"]]:
            return None
        names = dict.fromkeys(("weak", "ceiling", facts.method))
        records = {
            r["method"]: r for r in report["records"] if r["seed"] == facts.seed and r["method"] in names
        }
        of_student = [r for r in report["p_ik"] if (r["seed"], r["method"]) == (facts.seed, facts.method)]
        p_ik = [r for r in of_student if "test_task" in r]  # runs of the first versions named no task
        is_generated = student.run_config["data"]["source"] == smoke.GENERATED
        return model_card.Numbers(records if facts.method in records else {}, p_ik, is_generated)
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
    """Writes a student's weights, tokenizer files and model card as a folder: all of it, or nothing.

    Adapters are merged into the weights that they adapt, or written without them. By a single process.

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
    folder, facts = check_output(folder), student.facts
    of_form = _FORMS[facts.supervision]
    dtype = dtype or facts.param_dtype
    writer.check_dtype(dtype)
    is_apart = _is_apart(facts, adapters)
    tokenizer = student_models.load_tokenizer(student, tokenizer_folder)
    origin = _origin(student, base if is_apart else None)
    card_of = model_card.CardOf(
        writer.TRANSFORMERS_CLASSIFIERS.get(student.config.family, (None,))[0], is_apart, tokenizer.pad_id
    )
    shown, numbers = students.with_titles(student), read_numbers(student)
    card = model_card.compose(
        shown,
        of_form.card(shown, card_of),
        numbers=numbers,
        dtype=dtype,
        library=card_of.library,
        origin=origin,
        datasets=_datasets(student, numbers),
    )
    mesh = sharding.mesh_for(student.config, None, may_fold=True)
    if is_apart:
        model = student_models.load_trained_parts(student, mesh=mesh)
    else:
        model = student_models.load(student, base=base, mesh=mesh, param_dtype=facts.param_dtype)

    def write(partial: pathlib.Path) -> None:
        _write(form.Target(partial, model, facts, tokenizer, dtype, origin), of_form, card, is_apart)

    try:
        if folder.is_dir():
            folder.rmdir()
        artifacts.fill_once(folder, write)
    except OSError as error:
        raise UserError(
            f"--output={folder} cannot be written ({error.strerror}); choose another, or free space"
        ) from error


def _write(target: form.Target, of_form: form.Form, card: str, is_apart: bool) -> None:
    """Fills a folder."""
    folder, tokenizer = target.folder, target.tokenizer
    if is_apart:
        of_form.save_adapters(target)
    else:
        if target.model.adapters is not None:
            lora.merge(target.model)
        of_form.save(target)
    for file in tokenizer.files:
        shutil.copyfile(file, folder / file.name)
    _name_padding(folder, tokenizer)
    text = json.dumps(target.facts.to_json(), indent=1, ensure_ascii=False)
    (folder / FACTS_NAME).write_text(text + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def paths_in(folder: pathlib.Path) -> list[str]:
    """Folders of this machine that an exported folder names, as the config of its run or PEFT's settings did."""
    found: dict[str, None] = {}
    for name in (FACTS_NAME, peft.CONFIG_NAME):
        if (folder / name).is_file():
            values = weight_files.read_json(folder / name).values()
            found |= dict.fromkeys(
                one for one in values if isinstance(one, str) and one.startswith(("/", "~"))
            )
    return list(found)


def _datasets(student: students.Student, numbers: model_card.Numbers | None) -> dict[str, str]:
    """By task the data sets of the hub, where the run read them there, that it was trained or tested on."""
    data = student.run_config.get("data", {})
    if data.get("source") != "hub" or data.get("train_file"):
        return {}
    facts, p_ik = student.facts, student.run_config.get("p_ik", {})
    tested = [test["test_task"] for test in numbers.p_ik] if numbers else []
    named = [facts.learnt, facts.task, *([p_ik.get("task")] if facts.has_p_ik_head else []), *tested]
    own = (
        p_ik.get("task") if p_ik.get("file") else None
    )  # a user's questions, which may be called as a data set is
    known = written_tasks.WRITTEN_TASKS if facts.written else tasks.TASKS
    return {
        name: hub
        for name in dict.fromkeys(named)
        if name in known and name != own and (hub := known[name].hub_name)
    }


def _origin(student: students.Student, base: pathlib.Path | None) -> model_card.Origin:
    """Where the pretrained model of a student is.

    Its name in the config may be that of a folder, and a model of that name on the hub another one: it is from the hub
    only where it was found in the hub's cache under that name.

    Args:
        base: folder where it is now; default where the run found it.

    Raises:
        UserError: a folder is given, and it is not that model.
    """
    if base is not None:
        return model_card.Origin(folder=os.path.abspath(student_models.find_base(student, base)))
    folder, name = student.base_folder, student.facts.base
    if folder is None:
        return model_card.Origin()
    if entry := registry.find_model(name):
        name = entry.hub_name
    found = model_folders.hub_snapshot(folder)
    if found and name == found[0]:
        return model_card.Origin(hub_name=name, revision=found[1])
    return model_card.Origin(folder=os.path.abspath(folder))


def _name_padding(folder: pathlib.Path, tokenizer: tokenizers.Tokenizer) -> None:
    """Says in the tokenizer's settings which token pads, where they do not: without one transformers makes no batch."""
    settings_path = folder / "tokenizer_config.json"
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        return  # in a format that transformers does not read
    settings = weight_files.read_json(settings_path) if settings_path.is_file() else {}
    others = folder / "special_tokens_map.json"
    if (settings | (weight_files.read_json(others) if others.is_file() else {})).get("pad_token"):
        return
    end = settings.get("eos_token")
    named = (end.get("content") if isinstance(end, dict) else end, *_ENDS_OF_TEXT)
    for token in filter(None, named):
        if tokenizer.encode(token) == [tokenizer.pad_id]:
            writer.write_json(settings_path, settings | {"pad_token": token})
            return


_ENDS_OF_TEXT = ("<|endoftext|>", "</s>", "<|end_of_text|>")  # of families whose tokenizers name none


def _is_apart(facts: students.Facts, adapters: str) -> bool:
    if adapters not in ("merged", "apart"):
        raise UserError(f"--lora={adapters} is not one of: merged, apart")
    if adapters == "apart" and facts.lora is None:
        raise UserError(
            f"--lora=apart: {facts.method} has no adapters, as the run trained with training.trained={facts.trained}; "
            "leave the flag out"
        )
    return adapters == "apart"


def check_output(folder: os.PathLike | str) -> pathlib.Path:
    """Checks a folder to write, before the student is read; of a link to an empty one, the target is replaced.

    Returns:
        Where it is.

    Raises:
        UserError: it is not local, not empty or cannot be written.
    """
    if "://" in os.fspath(folder):
        raise UserError(f"--output={folder} is not on this machine; give a local folder and copy it there")
    folder = pathlib.Path(os.path.realpath(pathlib.Path(folder).expanduser()))
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--output={folder} is not empty; choose another folder, or remove it")
    places.check_output_folder(folder, "--output")
    if folder.is_dir():  # which is replaced as a whole
        places.check_output_folder(folder.parent, "--output")
    return folder


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
        return students.Facts.from_json(errors.parse_json(path.read_text(encoding="utf-8")))
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
) -> nnx.Module:
    """The model of an exported folder, read into shards. Arguments as for `load`.

    A `heads.Classifier`, or a `language_model.LanguageModel` where it writes.

    Args:
        base: folder of the pretrained model, for adapters that were written apart; default where the run had it, or as
            its config named it.

    Raises:
        UserError: it is no exported student, or a damaged one, or the pretrained model is gone.
    """
    folder = pathlib.Path(folder).expanduser()
    facts = read_facts(folder)
    is_apart, weights = (folder / peft.CONFIG_NAME).is_file(), folder
    if is_apart:
        weights = loader.resolve(_named_base(folder, facts) if base is None else base)
        of_tokenizer = (
            facts.tokenizer_fingerprint or tokenizers.load_tokenizer(folder, bos=facts.bos).fingerprint
        )
        student_models.check_base(weights, facts.base_fingerprint, of_tokenizer)
    else:  # the folder has all weights, as if all had been trained
        facts = dataclasses.replace(facts, trained="all", lora=None)
    settings = student_models.settings_of(
        facts,
        mesh=mesh,
        param_dtype=param_dtype,
        compute_dtype=compute_dtype,
        remat=remat,
        attention=attention,
    )
    model, arrays = _FORMS[facts.supervision].load(weights, folder, settings)
    params = {name: getattr(model, name) for name in arrays}
    if is_apart:
        arrays = {**arrays, **peft.read(folder / peft.WEIGHTS_NAME, model)}
        params |= peft.params(model)
    for name, param in params.items():
        layout = sharding.logical_sharding(settings.mesh, param.get_metadata()["axes"])
        param.set_value(sharding.put(arrays[name].astype(param.dtype), layout))
    return model


def _named_base(folder: pathlib.Path, facts: students.Facts) -> str:
    """The pretrained model that adapters name, where it is a folder that is there; else as the run's config had it."""
    named = weight_files.read_json(folder / peft.CONFIG_NAME).get("base_model_name_or_path")
    return named if isinstance(named, str) and os.path.isabs(named) and os.path.isdir(named) else facts.base
