"""The benchmark of models that write: what it counts, that it runs the real step, what it refuses."""

import jax
import numpy as np
import pytest
from support import written_config

from selw2s_jax import errors
from selw2s_jax.benchmark import completions, measure, runner
from selw2s_jax.data import answer_tokens, batches
from selw2s_jax.plan import estimate, planner, workload


def make_workloads(tmp_path, num_steps: int, **values) -> completions.Completions:
    values = {"strong__model": "random-tiny-llama", "execution__train_shapes": 1} | values
    config = planner.cells(written_config.raw(**values))[0].config
    model = workload.find_model(config, "strong", tmp_path)
    return completions.Completions(config, model, completions.synthetic(config, model, 23), num_steps)


def test_counts_and_flops_are_of_answer_tokens(tmp_path):
    made = make_workloads(tmp_path, 3)
    rows, work = made._found.of("finetune"), made.train("finetune")
    counts = rows.columns[answer_tokens.COLUMN]
    assert (
        counts.min() > 0
        and (counts < rows.lengths).all()
        and rows.lengths.mean() == pytest.approx(23, rel=0.1)
    )
    batch = work.feed.make(1)
    found, index = measure.count(batch), batch.index[0]
    assert found.num_answered == counts[index].sum() < found.num_tokens == rows.lengths[index].sum()
    config = made._model.config
    flops = estimate.step_flops(
        config,
        num_tokens=found.num_tokens,
        num_examples=0,
        mean_length=found.squared_lengths / found.num_tokens,
        trained="lora",
        adapter_params=work.program.costs["adapter_params"],
        num_read=found.num_answered,
        num_predicted=found.num_answered,
    )
    assert measure.model_flops(work, found) == flops.model
    without = measure.model_flops(work, found._replace(num_answered=1))
    assert without < flops.model


def test_mistakes_are_named(tmp_path):
    for options, part in (
        ({"programs": ("score",)}, "choose from train, write, load"),
        ({"methods": ("selective",)}, "--method='selective' is not known"),
        ({"mean_length": 1}, "--lengths=1 must be between 2 and"),
    ):
        with pytest.raises(errors.UserError) as error:
            runner.run(written_config.raw(), runner.Options(**options))
        assert part in str(error.value) and "\n" not in str(error.value)


@pytest.mark.slow
def test_a_tiny_checkpoint_on_its_texts():
    """Of real tokens: those of the rows, without padding."""
    options = runner.Options(
        ("train", "write"), methods=("reweighted",), num_steps=3, warmup=1, peak_flops=1e12
    )
    train, written = runner.run(written_config.raw(strong__model="random-tiny-llama"), options)["rows"]
    assert train["data"].startswith("rows of mmlu") and train["method"] == "reweighted"
    assert train["num_examples"] == 3 * 8 and train["mfu"] > 0
    assert train["examples_per_s"] == pytest.approx(train["num_examples"] / train["seconds"], rel=1e-4)
    assert 0 < train["answer_tokens"] < train["useful_tokens"] < train["padded_tokens"]
    assert train["padding_efficiency"] == train["useful_tokens"] / train["padded_tokens"]
    assert written["tokens"] > 0 and written["num_prompts"] == 32


@pytest.mark.slow
def test_what_is_timed_is_the_real_step(tmp_path):
    """The adapters are, bit for bit, those of as many steps without the benchmark."""
    work = make_workloads(tmp_path, 3).train("finetune")
    held = work.start()
    executables, _ = measure.compile_shapes(work, held)
    timed, _ = measure.run_steps(work, executables, held, work.feed)
    plain = work.start()
    for number in range(3):
        batch = batches.device_batch(work.feed.make(number), work.program.mesh)
        plain, metrics, _ = work.program.function(plain, batch)
    assert np.isfinite(float(metrics["loss"]))
    for one, other in zip(*map(jax.tree.leaves, (timed, plain)), strict=True):
        np.testing.assert_array_equal(one, other)
