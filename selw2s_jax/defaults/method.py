"""Labels, P(IK), graph and losses."""

import ml_collections
from ml_collections.config_dict import placeholder


def add_keys(config: ml_collections.ConfigDict) -> None:
    """Adds the sections."""
    _add_p_ik(config)
    _add_labels(config)
    _add_teachers(config)
    _add_losses(config)
    # Of one method alone, by its name: `method_options.NAME.OPTION`, any argument that its loss, label rule, selector,
    # refiner or row weights name, and what a key of their own says for all methods goes before. Numbers, texts, truth
    # values, tuples of these.
    config.method_options = ml_collections.ConfigDict(type_safe=False)


def _add_p_ik(config: ml_collections.ConfigDict) -> None:
    config.p_ik = dict(
        task="arc",  # that it is trained on
        data=placeholder(str),  # arc: easy+challenge | easy | challenge
        file=placeholder(str),  # a user's own file instead of the task's train split
        num_train=placeholder(int),  # null: all
        gamma=0.8,
        weight=1.0,  # lambda of Eq. 4
        batch_size=placeholder(int),  # null: training.batch_size
        num_samples=1,  # sampled answers per question; the target is the share that is right
        temperature=1.0,  # of the sampled answers; 0: greedy
        stage="joint",  # joint | pretrain_then_joint | frozen
        epochs=2.0,  # of P(IK) alone, for the latter two and methods that take its scores
        mask="online",  # online | frozen_scores | file
        scores_file=placeholder(str),  # for mask=file: JSONL of {example_id, p_ik}
        prompt="bare",  # classifier input: bare | instruction | fewshot
        # Beside students: questions of p_ik.task's test split that P(IK) is tested on, as it then is on the task's own;
        # 0: on neither. P(IK) that is trained first for the scores of others is tested on the former alone, unless
        # p_ik_only is listed; posterior labels are calibrated on them. With methods=p_ik_only P(IK) is tested on the
        # task's own alone.
        num_test=0,
    )


def _add_labels(config: ml_collections.ConfigDict) -> None:
    config.self_label = dict(
        source="fewshot",  # fewshot | class_head | file | a label source of your own, by name
        file=placeholder(str),  # for source=file: JSONL of {example_id, label}
        soft=False,
        num_shots=4,
    )
    # Of few-shot prompts, whose answers are those of the strong model: a dialogue by its chat template (on), plain text
    # (off), or the former where it has one and its name says instruct, chat or it (auto).
    config.fewshot = dict(chat="off")
    # Of few-shot answers that are written at length (GSM8K); sampled with p_ik.temperature where P(IK) is trained.
    config.generation = dict(
        max_new_tokens=256,
        top_p=1.0,  # of the sampled ones: only the likeliest tokens that have this probability together
    )
    # Of methods that weigh labels by how far they can be trusted (posterior, selective_by_confidence and the like).
    config.calibration = dict(
        # Where weak labels get their slope: crossfit, by weak models that are each trained on all but one of the
        # folds of the weak half, or none: they are taken as they are.
        weak="crossfit",
        folds=5,
    )
    # Parts of the selective rule; your own by name.
    config.selection = dict(
        selector="threshold",  # which rows keep the strong model's own label
        refiner="graph",  # what becomes of the labels of the others: graph | none
        # Of the selector by_disagreement, of several weak models: what is measured (votes: the share of the votes that
        # are outvoted | variance: of the probabilities), and above which own labels are taken.
        disagreement_by="votes",
        disagreement_above=0.0,
    )
    # over: with whose labels a label is averaged: batch, by the student's present embeddings; or set, the whole half,
    # by those of the model as it was pretrained, which smooths `posterior` too.
    config.graph = dict(alpha=0.9, tau=0.1, normalize=True, center=False, include_self=True, over="batch")


def _add_teachers(config: ml_collections.ConfigDict) -> None:
    """Of methods whose teachers are earlier students."""
    # Of two_stage and its control, shares of rows, each rounded down to whole ones.
    config.two_stage = dict(
        share_weak=0.5,  # of the student's half, most confident first: trained on with weak labels
        share_student=0.5,  # of the others, relabelled by a student of the first ones: 0 drops them all
        soft=True,  # False: labels of 0 and 1
    )
    # The models between the weak and the strong one, in their order, as weak.model; their learning rate is
    # training.learning_rate, else their own default, and what is trained of them is that of the strong model.
    config.chain = dict(models=())
    config.iterate = dict(rounds=2)  # of the strong model on the labels of a student of itself


def _add_losses(config: ml_collections.ConfigDict) -> None:
    # Of the losses by name; a loss of your own that takes an argument of one of these names is given it, unless it is
    # registered with other sections.
    config.loss = dict(
        scale=1.0,  # of reverse_kl, jensen_shannon, forward_kl, hellinger, total_variation, chi_squared
        confidence_coefficient=0.5,  # weight of the student's own class in the target
        confidence_ramp_fraction=0.1,  # of training, over which that weight rises from 0
        product_weak_power=1.0,  # the target is w^a f^b, normalised: a
        product_student_power=1.0,  # b
        adaptive_temperature=1.0,
        mean="rows",  # of completions, over: rows (Eq. 5) | tokens
    )
    # Of raven, which weighs the labels of several weak models (weak.members).
    config.raven = dict(
        learning_rate=0.01,  # of the weights; 0: they stay alike
        frozen_fraction=0.1,  # of training, over which they do
        easy_only=True,  # there train on those rows alone whose members agree
        mix="probabilities",  # what is averaged: probabilities | logits
        floor=1e-6,  # what a weight is at least
    )
    config.ceiling = dict(split="student")  # student | weak | both
    # What openai/weak-to-strong is known to do otherwise.
    config.compat = dict(
        openai_pooling=False,  # last token = number of ids != 0
        openai_ramp=False,  # confidence: the bare step fraction until 10 %, then 1 (its issue 33)
    )
