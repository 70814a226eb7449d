"""A whole run of seconds, for tests that kill it anywhere: pretraining, few-shot scoring, students, evaluation.

--config=tests/support/kill_config.py           checkpoints every 5 steps, micro-batches
--config=tests/support/kill_config.py:gentle    its weights hardly move, so that rounding is not magnified
"""

from selw2s_jax import config as config_lib


def get_config(arguments: str | None = None):
    choice = config_lib.parse_arguments(arguments, choices={"gentle": ()})
    config = config_lib.default_config()
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
