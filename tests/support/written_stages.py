"""A finished stage of answers, written by hand, and trainings of a language model on them."""

import dataclasses
import pathlib

import numpy as np
from support import tiny_config, written_questions

from selw2s_jax.data import answer_tables, variations
from selw2s_jax.inference import writing
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import complete, rows, settings, written

TRAINING = {
    "training__batch_size": 2,
    "training__trained": "lora",
    "training__optimizer": "adamw",
    "training__schedule": "linear",
    "training__clip_norm": 1.0,
    "lora__rank": 3,
    "lora__targets": ("qkv",),
}

# Of each of four questions the orders of its variations, with three choices.
ORDERS = ((1, 2, 0), (0, 1, 2), (2, 0, 1))
# Of each question what it was answered to the original prompt and to each variation: (text, original index of the
# choice that it says, -1 for none, why it ended). Choices of question i are moon, iron, bird moved on by i.
ANSWERS = (
    (
        (" A. moon", 0, "eos"),
        (" A. iron, as it is heavy", 1, "eos"),
        (" B. iron", 1, "stop"),
        (" iron", 1, "eos"),
    ),
    (
        (" A", 0, "eos"),
        (" C. iron", 0, "eos"),
        (" A. iron and iron and", 0, "length"),
        (" the answer is A", 2, "eos"),
    ),
    (
        (" none of them", -1, "eos"),
        (" who knows", -1, "eos"),
        (" B. moon", 1, "eos"),
        (" C. moon", 1, "eos"),
    ),
    (
        (" C. bird", 2, "eos"),
        (" C. moon", 0, "eos"),
        (" B. iron", 1, "eos"),
        (" A. bird", 2, "eos"),
    ),
)


def make_settings(**overrides) -> settings.Settings:
    options = {"precision__compute_dtype": "float32", "execution__score_tokens": 3 * 64} | overrides
    return settings.Settings.of(tiny_config.make_config(**options))


def answered(folder: pathlib.Path, **sizes: int) -> tuple[written.Write, artifacts.Store]:
    """A stage of answers to four questions under three variations each, finished with `ANSWERS`, and its store.

    Args:
        sizes: of its model.
    """
    model = written_questions.write_model(folder, role="weak", **sizes)
    split = written_questions.make_split(4)
    plan = [tuple(variations.Variation(order=order) for order in ORDERS)] * 4
    stage = written.Write(
        "weak answers, seed 0",
        make_settings(),
        written.Untouched(model),
        split,
        plan,
        writing.Answering(max_new_tokens=6),
    )
    store = artifacts.Store(folder / "store")
    write(store, stage)
    return stage, store


def write(store: artifacts.Store, stage: written.Write) -> None:
    """Makes `ANSWERS` the artifact of a stage."""
    given = [one for own in ANSWERS for one in own]
    columns = {
        "example_id": stage.asked.example_ids,
        "variation": np.array([number for _, number in stage.asked.places], np.int32),
        "text": [text for text, *_ in given],
        "prediction": ["" if choice < 0 else str(choice) for _, choice, _ in given],
        "letter": np.zeros(len(given), np.int32),
        "rule": [""] * len(given),
        "conflicts": np.zeros(len(given), bool),
        "finish": [finish for *_, finish in given],
        "log_prob": np.full(len(given), np.nan, np.float32),
        "num_tokens": np.ones(len(given), np.int32),
    }
    with store.filling(stage.name, stage.inputs) as folder:
        artifacts.write_table(folder / answer_tables.FILE, columns)
        artifacts.write_text(folder / "summary.json", "{}")


def make_student(asked: written.Write, method: str, **changes) -> complete.Complete:
    """A student of these answers; changes of its fields, of its model's, and of the config as `section__key`."""
    model = dataclasses.replace(asked.model, role="strong", fingerprint="tiny strong")
    weighted = rows.Weighted(asked.split, asked, method, {}, "raw", seed=3)
    student = complete.Complete(
        f"{method}, seed 0",
        make_settings(**TRAINING),
        "student",
        model,
        weighted,
        epochs=3.0,
        order_seed=0,
        init_seed=0,
    )
    return change(student, **changes)


def change(training: complete.Complete, **changes) -> complete.Complete:
    """The training with changes as of `make_student`."""
    of_config = {key: changes.pop(key) for key in list(changes) if "__" in key}
    of_model = {key: changes.pop(key) for key in ("max_length", "learning_rate") if key in changes}
    if of_config:
        changes["settings"] = make_settings(**TRAINING | of_config)
    if of_model:
        changes["model"] = dataclasses.replace(training.model, **of_model)
    return dataclasses.replace(training, **changes)


def copy_of(answers: tuple[written.Write, artifacts.Store], folder: pathlib.Path) -> artifacts.Store:
    """A store with the same finished answers and nothing else."""
    store = artifacts.Store(folder)
    write(store, answers[0])
    return store
