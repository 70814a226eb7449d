"""Reliability-Aware Alignment (arXiv 2406.19032): a weak model answers in several prompts, a strong one learns.

--config=configs/reliability.py:pair=llama2-7b-llama2-13b,task=mmlu    a cell of the paper's tables
--config=configs/reliability.py:world                                  in a small generated world, offline
--config=configs/reliability.py:world,task=world_addition              the same, answers are numbers
--config=configs/reliability.py:smoke                                  random tiny models, generated questions
--config=configs/reliability.py:compat                                 of what the authors' code does, what keys can say
"""

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.worlds import written_world

# The paper's pairs, base models as its words have it (its authors' code takes some that follow instructions).
PAIRS = {
    "llama2-7b-llama2-13b": ("llama-2-7b", "llama-2-13b"),
    "llama2-7b-mistral-7b": ("llama-2-7b", "mistral-7b-v0.1"),
    "llama2-7b-llama3-8b": ("llama-2-7b", "llama-3-8b"),
    "mistral-7b-llama3-8b": ("mistral-7b-v0.1", "llama-3-8b"),
}
TASKS = ("mmlu", "hellaswag", "ethics_commonsense", "gsm8k")
METHODS = (
    "finetune", "entropy_filter", "entropy_filter_sampled", "reweighted", "reweighted_sampled",
    "all_variations", "all_variations_sampled", "random_filter", "shuffled_weights", "question_weights",
    "answer_weights", "majority",
)  # fmt: skip


def get_config(arguments: str | None = None):
    """The paper's settings (Appendix C, and the defaults of its trainer), one task and pair."""
    tasks = (*TASKS, *written_world.TASK_NAMES)
    chosen = config_lib.parse_arguments(
        arguments,
        choices={"pair": tuple(PAIRS), "task": tasks, "world": (), "smoke": (), "compat": ()},
    )
    config = config_lib.default_config()
    config.precision.compute_dtype = "bfloat16"  # as published, on every machine
    config.supervision, config.task, config.methods = "completion", chosen["task"], METHODS
    config.weak.model, config.strong.model = PAIRS[chosen["pair"]]
    config.data.max_length = 1600 if chosen["task"] == "ethics_commonsense" else 512
    config.variations.count = 2 if chosen["task"] == "ethics_commonsense" else 5
    config.training.update(
        batch_size=24, epochs=3.0, learning_rate=5e-5, optimizer="adamw", schedule="linear", clip_norm=1.0,
        trained="lora",
    )  # fmt: skip
    if not chosen["world"]:
        config.lora.update(rank=16, alpha=32.0, dropout=0.05, targets=("q", "v"))
    if chosen["compat"]:
        _follow_the_code(config)
    is_of_world = chosen["task"] in written_world.TASK_NAMES
    if chosen["world"]:
        written_world.settings(config, chosen["task"] if is_of_world else written_world.TASK_NAMES[0])
        config.seeds = (0,)
    elif is_of_world:
        raise UserError(
            f"configs/reliability.py: task={chosen['task']} is of the generated world: write world before it"
        )
    if chosen["smoke"]:
        _smoke(config)
    return config


def _follow_the_code(config) -> None:
    """What the authors' code does otherwise and keys can say; docs/reliability.md has what they cannot."""
    answers, is_mmlu = config.answers, config.task == "mmlu"
    answers.temperature, answers.top_p = 0.6, 0.9  # Llama-2's generation config
    answers.max_new_tokens, answers.test_max_new_tokens = 100 if is_mmlu else 50, 5
    answers.reading, answers.learn_end = "first", False
    answers.unparsed = "drop_question" if config.task == "gsm8k" else "trained"
    config.training.first_share = 0.9 if is_mmlu else 0.8


def _smoke(config) -> None:
    """A toy run that needs no network."""
    config.data.source = "generated"
    config.data.num_train, config.data.num_test = 64, 31
    config.weak.model, config.strong.model = "random-tiny-llama", "random-small-qwen2"
    config.training.batch_size, config.training.learning_rate = 8, 1e-3
    # What random models write says nothing: candidates are scored where there are some, and else learnt as they are.
    if config.task == "gsm8k" or config.answers.temperature:
        config.answers.unparsed, config.methods = (
            "trained",
            tuple(name for name in METHODS if name != "majority"),
        )
    else:
        config.answers.by = "score"
    config.seeds = (0,)
    config.precision.compute_dtype = "float32"
