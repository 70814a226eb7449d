"""A weak model that reads texts of a file behind its questions: what changes of a run, and what does not."""

import json

import pytest
from support import tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import inputs, selective


@pytest.fixture
def workdir(tmp_path):
    return tmp_path / "run"


def make(config, workdir):
    config = config_lib.normalize(config)
    return selective.Experiment(config, inputs.prepare(config, workdir))


def test_only_the_weak_model_reads_the_texts(tmp_path, workdir):
    config = tiny_config.make_config(methods=("selective",))
    bare = make(config, workdir)
    data = bare.inputs.by_seed[0]
    read = [*data.weak_half.ids, *data.student_half.ids, *data.test.ids]
    lines = [{"example_id": name, "text": f"the debate on {number}"} for number, name in enumerate(read)]
    path = tmp_path / "debates.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    config.weak.context_file = str(path)
    debated = make(config, workdir)

    weak, strong = debated.inputs.weak[0], debated.inputs.strong
    test = debated.split(weak, 0, "test")
    behind = {line["example_id"]: line["text"] for line in lines}
    assert test.texts == [
        f"{text}\n\n{behind[name]}" for text, name in zip(data.test.texts, data.test.ids, strict=True)
    ]
    assert debated.split(strong, 0, "test").texts == data.test.texts
    same = ("ceiling", "p_ik_model")
    assert all(getattr(debated, name)(0).key == getattr(bare, name)(0).key for name in same)
    assert debated.answers(0, "student_half").key == bare.answers(0, "student_half").key
    assert debated.weak(0).key != bare.weak(0).key
    # Its examples are as they were, its labels are of another weak model.
    ours, theirs = (one.student(0, "selective").task for one in (debated, bare))
    assert ours.split.texts_hash == theirs.split.texts_hash
    assert ours.inputs != theirs.inputs

    assert debated.embeddings_by_name("weak.weak_half", 0).split.texts_hash
    with pytest.raises(
        UserError, match=r"weak.p_ik is of questions behind which .* no text of weak.context_file"
    ):
        debated.embeddings_by_name("weak.p_ik", 0)

    path.write_text("".join(json.dumps(line) + "\n" for line in lines[1:]))
    with pytest.raises(
        UserError, match=f"lacks 1 of {len(read)} example_ids for weak model 0 .first: {read[0]}"
    ):
        make(config, workdir)
