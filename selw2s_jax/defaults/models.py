"""The pair of models, and the generated world that they may come from."""

import ml_collections
from ml_collections.config_dict import placeholder


def add_keys(config: ml_collections.ConfigDict) -> None:
    """Adds the sections."""
    for role in ("weak", "strong"):
        config[role] = dict(
            model=placeholder(str),  # registry name, hub name, or folder
            # What it is called in tables, titles and reports, which nothing depends on; of weak.members one for each,
            # with commas between; null: the last part of model.
            name=placeholder(str),
            revision=placeholder(str),  # of a hub name; null: the registry's
            tokenizer=placeholder(str),  # a folder; null: the model's own
            learning_rate=placeholder(float),  # null: training.learning_rate, else the model's own default
            trained=placeholder(str),  # null: training.trained
        )

    # What holds for both models.
    config.model = dict(
        bos="auto",  # a beginning-of-text token before every text: auto (as the tokenizer's files say) | on | off
    )

    # Several weak models in the place of weak.model, which label together: names, each with a task where it learns
    # another one's truth, as gpt2,gpt2,gpt2-medium or gpt2,gpt2@arc; empty: weak.model alone.
    config.weak.members = ()
    # What each of several learns of its half, always in an order of its own: same (all rows) | disjoint (parts, of
    # whole questions) | bootstrap (as many questions, drawn with replacement: a row counts as often as it was drawn).
    config.weak.rows = "same"
    # How their labels become one: mean | votes | any that is registered.
    config.weak.combine = "mean"
    # The task whose truth weak models learn, where it is another one: a shift of distribution; null: task.
    config.weak.task = placeholder(str)

    # Form of what the weak model reads, as p_ik.prompt, which holds for the strong model; null: p_ik.prompt.
    config.weak.prompt = placeholder(str)

    # Texts that the weak model reads behind its questions: JSONL of {example_id, text}, and "member" where several do.
    config.weak.context_file = placeholder(str)

    # Share of the weak labels on the student's half that are turned round, as an axis of their quality.
    config.weak.label_noise = 0.0

    # A generated world (data.source="world"); see worlds/toy_world.py.
    config.world = dict(
        seed=0,
        num_entities=1600,
        zipf_exponent=1.6,
        zipf_offset=10.0,
        shown_share=0.5,
        test_share=0.3,
        judged_share=0.2,
        judged_power=0.5,
        stated_share=0.3,
        tasks=("world_facts", "world_traits", "world_passage", "world_compare", "world_sums"),
        task_shares=(3.0, 3.0, 2.0, 2.0, 2.0),
        tail=1.0,
        told_as="words",  # words (yes, no) | digits (1, 0)
        shortcut=placeholder(float),  # null, both: no word of style in the answers
        shortcut_in_text=placeholder(float),
    )
    # Of the language models of a world (weak.model, strong.model or one of chain.models="world").
    config.pretraining = dict(
        seed=0,
        row_length=96,  # tokens
        batch_rows=10,
        learning_rate=6e-3,
        warmup_steps=100,
        final_fraction=0.05,  # of the learning rate, at the end of its cosine
        b2=0.98,
        clip_norm=1.0,
        fact_weight=10.0,  # in the loss, of a word that tells a fact or a judgement
        weak=dict(num_layers=3, embed_dim=32, num_heads=4, mlp_dim=64, num_steps=1500),
        strong=dict(num_layers=3, embed_dim=64, num_heads=4, mlp_dim=128, num_steps=3400),
        chain=dict(num_layers=3, embed_dim=48, num_heads=4, mlp_dim=96, num_steps=2400),  # chain.models=world
    )
