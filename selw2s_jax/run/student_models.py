"""Trained models of a run as arrays: their tokenizers, the pretrained models that they were made from, themselves."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.errors import UserError
from selw2s_jax.hf import model_folders, pretrained, tokenizers, weight_files
from selw2s_jax.models import registry
from selw2s_jax.run import students
from selw2s_jax.runtime import artifacts, remote
from selw2s_jax.training import state


def load_tokenizer(
    student: students.Student, folder: pathlib.Path | None = None, *, flag: str = "--tokenizer"
) -> tokenizers.Tokenizer:
    """The tokenizer that a student was trained with.

    Args:
        folder: where its files are now; default where they were then.
        flag: that gives the folder.

    Raises:
        UserError: they are not there, or are not those.
    """
    folder = student.tokenizer_folder if folder is None else remote.local_copy(folder)
    remedy = f"give the folder of the model's tokenizer files with {flag}"
    if not folder.is_dir():
        raise UserError(f"the tokenizer folder {folder} of {student.facts.base} is gone; {remedy}")
    tokenizer = tokenizers.load_tokenizer(folder, bos=student.facts.bos)
    if tokenizer.fingerprint != student.tokenizer_fingerprint:
        raise UserError(
            f"the tokenizer in {folder} is not the one that {student.facts.method} was trained with; {remedy}"
        )
    tokenizers.check_tokenizer(tokenizer, student.config.vocab_size, student.facts.base)
    return tokenizer


def find_base(
    student: students.Student,
    folder: pathlib.Path | None = None,
    *,
    use: str | None = None,
    flag: str = "--base",
) -> pathlib.Path:
    """The folder of the pretrained model that a student was made from.

    Args:
        folder: where its files are now; default where they were then.
        use: what it is needed for; default that the student has parts of it.
        flag: that gives the folder.

    Raises:
        UserError: they are not there, or are not those.
    """
    folder = student.base_folder if folder is None else remote.local_copy(folder)
    facts = student.facts
    if folder is None or not folder.is_dir():
        where = f"the folder {folder} of {facts.base}" if folder else f"the folder of {facts.base}"
        use = use or f"of which {facts.method} trained a part"
        raise UserError(f"{where}, {use}, is gone; give the folder of the pretrained model with {flag}")
    folder = model_folders.step_into(folder)
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
    student: students.Student,
    *,
    base: pathlib.Path | None = None,
    mesh: jax.sharding.Mesh | None = None,
    param_dtype: str | None = None,
    **options: str,
) -> nnx.Module:
    """A student, read into shards from its artifact, and from the pretrained model what was not trained.

    A `heads.Classifier`, or a `language_model.LanguageModel` where it writes.

    Args:
        base: folder of the pretrained model, where it is needed; default where the run found it.
        mesh: default the first local device.
        param_dtype: default that of the run, which held what it did not train in its compute dtype.
        options: compute_dtype, remat and attention as for `pretrained.ClassifierSettings`; the first default that of
            the run.

    Raises:
        UserError: the artifact is damaged, the pretrained model is gone, or the mesh does not divide the model.
    """
    settings, kind = settings_of(student.facts, mesh=mesh, param_dtype=param_dtype, **options), _kind(student)

    def load_pretrained() -> nnx.Module:
        return kind.load(find_base(student, base), settings)

    return _load(student, settings, load_pretrained)


def load_trained_parts(student: students.Student, *, mesh: jax.sharding.Mesh) -> nnx.Module:
    """A student with arrays for what was trained, and for the rest shapes; as `load`.

    Raises:
        UserError: the artifact is damaged, or the mesh does not divide the model.
    """
    settings, kind = settings_of(student.facts, mesh=mesh), _kind(student)
    return _load(student, settings, lambda: kind.abstract(student.config, settings))


def settings_of(
    facts: students.Facts,
    *,
    mesh: jax.sharding.Mesh | None = None,
    param_dtype: str | None = None,
    compute_dtype: str | None = None,
    **options: str,
) -> pretrained.ClassifierSettings | pretrained.LanguageModelSettings:
    """How a student is built; arguments as for `load`."""
    return _KINDS[facts.supervision].settings(
        facts,
        trained=facts.trained,
        param_dtype=param_dtype or facts.param_dtype,
        compute_dtype=compute_dtype or facts.compute_dtype,
        mesh=sharding.single_device_mesh() if mesh is None else mesh,
        frozen_dtype=param_dtype or facts.compute_dtype,
        adapters=facts.lora,
        **options,
    )


class _Kind(NamedTuple):
    """What is built of a form of supervision.

    Attributes:
        settings: (facts, what all have by name) -> how it is built.
        load, abstract: (folder, settings), (sizes, settings) -> it before training, and of shapes alone.
    """

    settings: Callable[..., Any]
    load: Callable[[pathlib.Path, Any], nnx.Module]
    abstract: Callable[[registry.ModelConfig, Any], nnx.Module]


_KINDS = {
    "class_head": _Kind(
        lambda facts, **common: pretrained.ClassifierSettings(p_ik_head=facts.has_p_ik_head, **common),
        pretrained.load_classifier,
        pretrained.abstract_classifier,
    ),
    "completion": _Kind(
        lambda facts, **common: pretrained.LanguageModelSettings(**common),
        pretrained.load_trainable,
        pretrained.abstract_trainable,
    ),
}


def _kind(student: students.Student) -> _Kind:
    return _KINDS[student.facts.supervision]


def _load(
    student: students.Student,
    settings: pretrained.ClassifierSettings | pretrained.LanguageModelSettings,
    load_pretrained: Callable[[], nnx.Module],
) -> nnx.Module:
    sharding.check_divisible(settings.mesh, student.config)
    return state.load_trained(
        student.artifact.verified("params"),
        _kind(student).abstract(student.config, settings),
        settings.trained,
        load_pretrained,
        settings.mesh,
    )
