"""Optimization, precision, devices, and what a run writes."""

import ml_collections
from ml_collections.config_dict import placeholder


def add_keys(config: ml_collections.ConfigDict) -> None:
    """Adds the sections."""
    config.training = dict(
        batch_size=32,  # examples of the task in a step
        micro_batch_size=placeholder(
            int
        ),  # examples of each kind in one pass; null (auto): the most that fit
        epochs=2.0,
        learning_rate=placeholder(float),  # null: each model's own default
        optimizer="adam",  # adam | adamw | adafactor
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        weight_decay=0.0,  # decoupled, of adamw and adafactor
        schedule="cosine",  # cosine | linear | constant
        warmup_steps=0,  # over which the learning rate rises from 0
        clip_norm=placeholder(float),  # largest global norm of a gradient; null: not clipped
        trained="all",  # all | heads (a linear probe) | lora (heads and low-rank adapters); the rest stays as it was
        match_steps=False,  # of completions: all students take the steps of one row for each question
        first_share=1.0,  # of completions: of the rows of each model, in their order, that it is trained on
        embed_once=True,  # of trained=heads: the model reads every text once, before training; False: at every step
    )
    config.lora = dict(  # of training.trained=lora
        rank=8,
        alpha=16.0,  # the adapters' product is scaled by alpha / rank
        dropout=0.0,  # of the adapters' inputs
        # attention, mlp: all of their weights, biases apart; q, k, v, ...: single ones
        targets=("attention",),
    )
    config.precision = dict(
        param_dtype="float32",  # float32 | bfloat16, of parameters that are trained
        compute_dtype="auto",  # float32 | bfloat16 | auto: bfloat16, but float32 on CPUs without products of it
        moment_dtype="float32",  # float32 | bfloat16, of Adam
    )
    # (data, fsdp, tensor) of the strong model, the weak model's is folded where it must be; null (auto): as models fit.
    config.mesh = dict(
        shape=placeholder(tuple),
        num_groups=1,  # equal groups of devices that make stages side by side; the shape is that of each
    )
    config.checkpoint = dict(
        every_steps=500,  # of a training run between two savings of its whole state; 0: only when told to stop
        keep=2,  # states of a run under way
    )
    # Of models that are trained as classifiers of the task: curves over training, in the report.
    config.evaluation = dict(
        every_steps=0,  # they are asked about the test set before training, every so many steps, and after it; 0: never
        num_trained=0,  # students also about so many rows that they are trained on, drawn once for all
        held_out=0.0,  # share of the student's half that no model is trained on: early stopping by its weak labels
    )
    config.execution = dict(
        # What the backward pass computes again: full | dots (all but products) | none | auto: dots where it fits.
        remat="auto",
        attention="xla",  # xla | cudnn (GPUs)
        train_shapes=6,  # shapes of packed rows that a training run compiles at most
        score_tokens=16_384,  # tokens in one scoring or evaluation batch
    )
    # Metrics of training are always logged as JSON lines; besides, where these are True.
    config.logging = dict(
        every_steps=1,
        tensorboard=False,
        wandb=False,  # Weights & Biases
        trackio=False,
        project="selw2s-jax",  # of wandb and trackio; their group is the workdir's name
    )
    config.analysis = dict(
        embeddings=(),  # that a run computes besides: "strong.test", a model and a split
        kernels=False,  # whether the gap between student and ceiling is predicted from embeddings of both models
        num_rows=2000,  # of the student's half, for kernels; at most 10,000, as time grows with the cube
    )
