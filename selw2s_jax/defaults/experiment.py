"""What is run, on which data, from which seeds."""

import ml_collections
from ml_collections.config_dict import placeholder

# Seeds that no base seed touches: every seed and method is tested on the same converted items.
TEST_CONVERSION_SEED = 20251114


def add_keys(config: ml_collections.ConfigDict) -> None:
    """Adds the sections."""
    # What a model learns: class_head, a probability of each of two classes (Selective W2SG), or completion, the text of
    # an answer (Reliability-Aware Alignment).
    config.supervision = "class_head"
    config.task = "sciq"  # a registered task, or any name with data.train_file
    config.methods = ("finetune", "selective")  # students; the weak model and the ceiling always run
    config.plugins = ()  # modules to import, "package.module", that register parts of your own
    config.seeds = (0, 1, 2)  # base seeds, each a run of everything
    # Axes of a sweep; the run is their product. An empty one leaves what the rest of the config says.
    config.sweep = dict(
        tasks=(),
        pairs=(),  # "weak:strong", names of models
        settings=(),  # any other key, "data.num_train=1000,5000"; several axes are several strings
    )

    # Tasks that each student learns one after the other, going on from its weights of the last; a sweep over them.
    config.continual = dict(tasks=())

    config.data = dict(
        source="hub",  # "hub", "generated", or a folder laid out as <task>/<split>.parquet
        train_file=placeholder(str),  # a user's own JSONL, CSV or parquet instead of the task's train split
        test_file=placeholder(str),  # null with train_file: a fifth of the questions is held out
        instruction=placeholder(str),  # of the few-shot prompt; null: the task's own
        num_train=20_000,  # at most this many questions, halved
        num_test=placeholder(int),  # null: the whole test split
        max_length=1024,  # tokens
        overlap="note",  # of test questions that are among the training questions: note | drop (of training) | refuse
        overlong="default",  # default (train: drop, test: truncate) | drop | truncate | error
        conversion="coin",  # coin | balanced_pair | all
        sample="random",  # random | first
        reshuffle=True,  # another order of batches each epoch
        mmlu_train="dev",  # what the weak model of the written task mmlu is trained on: dev | auxiliary
    )
    # null: derived from the base seed
    config.seed = dict(
        split=placeholder(int),
        conversion=placeholder(int),
        order=placeholder(int),
        init=placeholder(int),
        sampling=placeholder(int),
        shots=placeholder(int),
        test_conversion=TEST_CONVERSION_SEED,
    )
