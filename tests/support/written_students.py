"""Trained models that write, as a run leaves them, without the run."""

import dataclasses
import pathlib
import types

import jax.numpy as jnp
import numpy as np
from etils import epath
from support import tokenizer_folders, written_questions

from selw2s_jax import config as config_lib
from selw2s_jax import sharding
from selw2s_jax.data import written_tasks
from selw2s_jax.hf import pretrained, random_checkpoint, tokenizers, weight_files
from selw2s_jax.models import language_model, lora
from selw2s_jax.run import student_models, students, written_facts
from selw2s_jax.runtime import artifacts
from selw2s_jax.training import checkpointing, state
from selw2s_jax.worlds import smoke

ADAPTERS = lora.Settings(rank=3, alpha=6.0, dropout=0.0, targets=("attention",))
TINY = dataclasses.replace(
    smoke.RANDOM_MODELS["random-tiny-gpt2"], num_layers=1, vocab_size=301, max_seq_len=128
)


def make(
    folder: pathlib.Path,
    *,
    task: written_tasks.WrittenTask = written_questions.CHOICE,
    trained: str = "lora",
    by: str = "generate",
    config=TINY,
    scale: float = 0.5,
    tokenizer: dict | None = None,
) -> tuple[students.Student, language_model.LanguageModel]:
    """A student of some family, and the model that it is."""
    base = folder / "base"
    random_checkpoint.write_random_checkpoint(base, config, scale=scale)
    tokenizer_folders.write_json(base, **{"eos_token": "<|end|>"} if tokenizer is None else tokenizer)
    found = tokenizers.load_tokenizer(base)
    facts = students.Facts(
        task=task.name,
        method="reweighted",
        seed=3,
        weak="little",
        strong="tiny",
        role="strong",
        has_class_head=False,
        has_p_ik_head=False,
        prompt="",
        instruction="",
        shots=(),
        max_length=config.max_seq_len,
        openai_pooling=False,
        param_dtype="float32",
        compute_dtype="float32",
        trained=trained,
        lora=ADAPTERS if trained == "lora" else None,
        base_fingerprint=artifacts.content_hash([weight_files.fingerprint(base), found.fingerprint]),
        tokenizer_fingerprint=found.fingerprint,
        bos_id=found.bos_id,
        written=written_facts.Written(task, has_own_code=False, by=by, max_new_tokens=9),
    )
    model = pretrained.load_trainable(
        base, student_models.settings_of(facts, mesh=sharding.single_device_mesh())
    )
    rng = np.random.default_rng(4)
    for name in () if model.adapters is None else model.adapters.names:
        b = model.adapters[name].b
        b[...] = jnp.asarray(0.3 * rng.standard_normal(b.shape), jnp.float32)
    _, params, _ = state.split(model, trained)
    checkpointing.save_params(folder / "params", params)
    kept = types.SimpleNamespace(key="key", verified=lambda name: folder / name)
    run_config = {
        "execution": {"score_tokens": 2048},
        "seed": config_lib.default_config().seed.to_dict(),
        "answers": {"max_new_tokens": facts.written.max_new_tokens},
    }
    student = students.Student(
        epath.Path(folder), epath.Path(folder), facts, kept, config, base, found.fingerprint, base, run_config
    )
    return student, model
