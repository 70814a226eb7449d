"""The answers stage: of models untouched and trained, its key, and what it writes."""

import dataclasses
import functools

import numpy as np
import pytest
from support import marks, tiny_config, written_answers, written_questions

from selw2s_jax.data import variations, written_tasks
from selw2s_jax.inference import writing
from selw2s_jax.models import lora
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import settings, stage, workbench, written

SETTINGS = settings.Settings.of(
    tiny_config.make_config(precision__compute_dtype="float32", execution__score_tokens=3 * 64)
)
GREEDY, SCORED = writing.Answering(max_new_tokens=6), writing.Answering(by="score")


@dataclasses.dataclass(frozen=True, eq=False)
class Trained(stage.Stage):
    """Stands for a stage that trains adapters."""

    name = "train"
    model: object = None

    @property
    def inputs(self):
        return {"trained": "adapters"}

    def write(self, folder, bench):
        artifacts.write_text(folder / "summary.json", "{}")

    def hold(self, bench):
        adapters = lora.Settings(rank=3, alpha=9.0, dropout=0.05, targets=("attention",))
        load = functools.partial(written_answers.make_model, self.model.folder, adapters)
        return bench.hold(self.key, load)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return written_questions.write_model(tmp_path_factory.mktemp("model"), role="weak")


@pytest.fixture
def make(model):
    split = written_questions.make_split(4)
    first = written.Write(
        "weak answers",
        SETTINGS,
        written.Untouched(model),
        split,
        written_questions.make_plan(split),
        GREEDY,
    )
    return lambda **changes: dataclasses.replace(first, **changes)


COLUMNS = ["text", "prediction", "letter", "rule", "conflicts", "finish", "log_prob", "num_tokens"]


@pytest.mark.parametrize(
    ("is_trained", "how"),
    [(False, GREEDY), marks.in_ci(False, SCORED), marks.in_ci(True, GREEDY), (True, SCORED)],
)
def test_models_untouched_and_trained_answer(make, model, tmp_path, is_trained, how):
    """Written and scored; the weak model too has its head, and adapters are not merged."""
    bench = workbench.Workbench(artifacts.Store(tmp_path), tmp_path)
    trained = Trained("weak", model)
    asking = make(reader=trained if is_trained else written.Untouched(model), how=how)
    asking.check()
    assert asking.needs == ((trained,) if is_trained else ())
    assert asking.language_model == (None if is_trained else model.fingerprint)
    bench.make(asking)
    read = writing.read(bench.store, asking, asking.split)
    answers = writing.read_answers(bench.store, asking, asking.split)
    assert list(read) == COLUMNS
    assert [len(own) for own in answers] == [1 + len(own) for own in asking.plan] == [3, 3, 2, 3]
    assert stage.find(bench.store, asking).read_json("summary.json")["n"] == 11
    assert not list(tmp_path.glob("checkpoints/*"))
    if how is SCORED:
        assert all(answer in (0, 1, 2) for own in answers for answer in own)
        assert np.isfinite(read["log_prob"][0]).all() and read["finish"][0] == ["scored"] * 3
    adapters = getattr(asking.hold(bench), "adapters", None)
    assert is_trained == (adapters is not None)


def test_a_key_names_what_answers_are_a_function_of(make, model):
    first = make()
    plan, split = first.plan, first.split
    other_seed = {"temperature": 0.5, "seed": 1}
    order = split.questions[::-1]
    others = {
        "trained": make(reader=Trained("weak", model)),
        "variations": make(plan=[own[:1] for own in plan]),
        "order": make(split=dataclasses.replace(split, questions=order), plan=plan[::-1]),
        "way": make(how=SCORED),
        "length": make(how=dataclasses.replace(GREEDY, max_new_tokens=7)),
        "sampled": make(how=dataclasses.replace(GREEDY, temperature=0.5)),
        "seed": make(how=dataclasses.replace(GREEDY, **other_seed)),
    }
    keys = {name: one.key for name, one in others.items()}
    assert len({first.key, *keys.values()}) == len(keys) + 1
    same = {
        "greedy has no seed": make(how=dataclasses.replace(GREEDY, seed=1, top_p=0.9)),
        "scored has neither": make(how=dataclasses.replace(SCORED, seed=1, temperature=0.5)),
        "the truth": make(
            split=dataclasses.replace(
                split, questions=[dataclasses.replace(one, answer=2) for one in split.questions]
            )
        ),
    }
    assert [one.key for one in same.values()] == [first.key, keys["way"], first.key]
    assert "code of parse" not in first.inputs

    class Own(written_tasks.WrittenTask):
        def parse(self, question, text, variation=None):
            return super().parse(question, text.lower(), variation)

    own = Own(**{field.name: getattr(split.task, field.name) for field in dataclasses.fields(split.task)})
    of_user = make(split=dataclasses.replace(split, task=own))
    assert "code of parse" in of_user.inputs and of_user.key != first.key


def test_samples_of_one_prompt_differ_in_number_only(make):
    plan = [(variations.Variation(),) * n for n in (1, 2, 0, 5)]
    asking = make(plan=plan, how=writing.Answering(temperature=1.0))
    assert asking.detail == "12 prompts"
    with pytest.raises(ValueError, match="variations of 3 questions for 4"):
        make(plan=plan[:3]).asked  # noqa: B018
