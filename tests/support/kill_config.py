"""A whole run of seconds, for tests that kill it anywhere: pretraining, few-shot scoring, students, evaluation.

--config=tests/support/kill_config.py           checkpoints every 5 steps, micro-batches
--config=tests/support/kill_config.py:gentle    its weights hardly move, so that rounding is not magnified
--config=tests/support/kill_config.py:two_stage    students that earlier ones teach
--config=tests/support/kill_config.py:completion    models that write: answers at length, adapters, weights on rows
"""

from selw2s_jax import config as config_lib


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(arguments, choices={"gentle": (), "completion": (), "two_stage": ()})
    config = config_lib.default_config()
    for name, set_up in (("completion", _write), ("two_stage", _teach)):
        if choice[name]:
            set_up(config)
            return config
    config_lib.correlated_world(config)
    config.seeds = (0,)
    config.methods = ("finetune", "selective")
    config.world.num_entities = 120
    config.data.num_train = 64
    config.data.num_test = 45
    config.p_ik.num_train = 50
    config.p_ik.num_test = 31
    config.p_ik.gamma = 0.4  # near what so few steps reach, so that selection is at work
    config.execution.score_tokens = 128  # several batches in every scoring
    config.training.learning_rate = 3e-3
    config.training.epochs = 15.0  # 60 steps
    config.training.batch_size = 8
    config.training.micro_batch_size = 4
    for role in ("weak", "strong"):
        sizes = config.pretraining[role]
        sizes.num_layers, sizes.embed_dim, sizes.mlp_dim, sizes.num_steps = 2, 16, 32, 90
    config.pretraining.strong.embed_dim = 32
    if choice["gentle"]:
        config.training.learning_rate = config.pretraining.learning_rate = 1e-7
    config.checkpoint.every_steps = 5
    return config


def _teach(config) -> None:
    """Random models; of 32 rows 16 are trained on first, and 24 then."""
    config_lib.smoke_settings(config, weak="random-tiny-gpt2", strong="random-tiny-gpt2")
    config.methods, config.seeds = ("two_stage",), (0,)
    config.data.num_train, config.data.num_test = 64, 45
    config.training.update(batch_size=8, micro_batch_size=4, epochs=40.0, learning_rate=3e-3)
    config.execution.score_tokens = 512
    config.checkpoint.every_steps = 5


def _write(config) -> None:
    """Random models, whose answers say nothing and are learnt all the same."""
    config.supervision, config.task, config.methods = "completion", "mmlu", ("finetune", "reweighted")
    config.data.source, config.data.num_train, config.data.num_test = "generated", 160, 45
    config.weak.model = config.strong.model = "random-tiny-gpt2"
    config.seeds = (0,)
    config.variations.count = 3  # 320 answers of the weak model, which are written in two blocks
    config.answers.update(max_new_tokens=24, temperature=1.0, unparsed="trained")
    config.execution.score_tokens = 4096
    config.training.update(
        batch_size=8, micro_batch_size=4, epochs=3.0, learning_rate=3e-3, trained="lora", optimizer="adamw",
        schedule="linear", clip_norm=1.0,
    )  # fmt: skip
    config.lora.update(rank=4, alpha=8.0, dropout=0.1, targets=("qkv",))
    config.precision.compute_dtype = "float32"
    config.execution.remat = "none"
    config.checkpoint.every_steps = 5
