"""configs/pair.py, ladder.py and small.py: each argument is a valid config, and their toys need no network."""

import itertools
import pathlib

import pytest
from support import commands, paths

from configs import ladder, pair, small
from selw2s_jax import config as config_lib
from selw2s_jax import main as main_command
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks
from selw2s_jax.models import registry as model_registry
from selw2s_jax.run import sweep
from selw2s_jax.worlds import smoke


def valid(config):
    config = config_lib.normalize(config)
    checks.validate(config)
    return config


@pytest.mark.parametrize(
    ("weak", "strong"),
    [
        ("smollm2-135m", "qwen2.5-7b"),
        ("Qwen/Qwen2-0.5B", "/data/models/Meta-Llama-3.1-8B"),
        ("../my=model", "/data/2026:11/model"),
    ],
)
def test_a_pair_has_the_papers_settings(weak, strong):
    config = valid(pair.get_config(f"weak={weak},strong={strong}"))
    assert (config.weak.model, config.strong.model) == (weak, strong)
    config.weak.model = config.strong.model = None
    assert config == config_lib.normalize(config_lib.default_config())


def test_toys_of_a_pair_are_of_its_families():
    for name, entry in model_registry.MODELS.items():
        for one in (name, entry.hub_name):
            config = valid(pair.get_config(f"weak={one},strong={one},smoke"))
            toys = (config.weak.model, config.strong.model)
            family = entry.config.family
            assert toys == (f"random-tiny-{family}", f"random-small-{family}")
            assert all(smoke.RANDOM_MODELS[toy].family == family for toy in toys)
            assert config.data.source == "generated"


def test_a_ladder_has_every_smaller_model_teach_every_larger_one():
    for name, sizes in ladder._SIZES.items():
        models = [f"{name}-{size}" for size in sizes]
        widths = [model_registry.MODELS[model].config.embed_dim for model in models]
        assert widths == sorted(widths)
        cells = sweep.expand(valid(ladder.get_config(name)))
        pairs = [(cell.config.weak.model, cell.config.strong.model) for cell in cells]
        assert pairs == list(itertools.combinations(models, 2))
        assert {cell.config.task for cell in cells} == {"sciq"}
        assert len(sweep.expand(valid(ladder.get_config(f"{name},largest={sizes[2]}")))) == 3
        (toy,) = sweep.expand(valid(ladder.get_config(f"{name},smoke")))
        assert {toy.config.weak.model, toy.config.strong.model} <= smoke.RANDOM_MODELS.keys()


def test_the_small_machine_trains_adapters():
    config = valid(small.get_config())
    assert config.training.trained == "lora" and config.training.learning_rate == 1e-4
    assert {config.weak.model, config.strong.model} <= model_registry.MODELS.keys()
    toy = valid(small.get_config("smoke"))
    assert toy.training.trained == "lora"
    assert {toy.weak.model, toy.strong.model} <= smoke.RANDOM_MODELS.keys()


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (pair, None, "has no weak and no strong: give configs/pair.py:weak=smollm2-135m,strong="),
        (pair, "strong=gpt2", "has no weak: give"),
        (pair, "weak=,strong=gpt2", "config argument 'weak' takes a value: weak=..."),
        (pair, "teacher=gpt2", "'teacher=gpt2' is not known; use one of: weak=..., strong=..., smoke"),
        (pair, "weak=a,smoke=1", "'smoke' is a flag"),
        (
            ladder,
            None,
            "takes one family, such as configs/ladder.py:qwen2.5, not 0; there are: pythia, qwen2.5",
        ),
        (ladder, "qwen2.5,largest=0.5b", "largest=0.5b is not one of: 1.5b, 3b"),
        (ladder, "gpt2", "'gpt2' is not known; use one of: "),
        (small, "weak=gpt2", "is not known; use one of: smoke"),
    ],
)
def test_wrong_arguments_are_one_line(module, arguments, message):
    with pytest.raises(UserError) as caught:
        module.get_config(arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_workdir_of_a_pair_is_one_folder():
    argument = "configs/pair.py:weak=../mine,strong=Qwen/Qwen2.5-7B"
    expected = pathlib.Path("runs") / "pair-weak=.._mine-strong=Qwen_Qwen2.5-7B"
    assert main_command._default_workdir(argument) == expected


def call(config: str, *arguments: str, cwd: pathlib.Path) -> str:
    ended = commands.call(main_command.main, f"--config={paths.CONFIGS}/{config}", *arguments, cwd=cwd)
    assert ended.returncode == 0, ended
    return ended.stdout


def test_a_toy_of_a_pair_is_read_and_checked(tmp_path):
    out = call("pair.py:smoke", "--dry_run", cwd=tmp_path)
    assert "11 stages in runs/pair-smoke, 11 to run" in out


@pytest.mark.slow
def test_a_toy_of_the_small_machine_runs(tmp_path):
    """A Llama with adapters teaches a Qwen2, both of grouped queries."""
    small_run = ("--config.methods=selective", "--config.data.num_train=64", "--config.data.num_test=21")
    out = call("small.py:smoke", *small_run, "--workdir=run", cwd=tmp_path)
    assert "random-tiny-llama teaches random-small-qwen2" in out
    assert (tmp_path / "run" / "results.json").is_file()
