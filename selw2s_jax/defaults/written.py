"""Prompts, answers and their reliability, of supervision="completion" (arXiv 2406.19032)."""

import ml_collections
from ml_collections.config_dict import placeholder


def add_keys(config: ml_collections.ConfigDict) -> None:
    """Adds the sections."""
    # Prompts of a question besides the original one, whose answers say how reliable they are.
    config.variations = dict(
        # permutation (of choices) | words (their two orders) | rules (safe edits) | file | model (a model of the run
        # rewords) | sampling (one prompt)
        kind="auto",  # permutation, words or rules, as the task has choices, two words or numbers
        count=5,  # N
        file=placeholder(str),  # JSONL of {example_id, paraphrases}
        role="strong",  # strong | weak: the model of the run that rewords, as it was pretrained
        temperature=0.7,  # of what it writes, N samples to a question
        max_new_tokens=256,  # of each
        cyclic=False,  # of permutations: every choice stands once at every place
    )
    config.answers = dict(
        by="generate",  # generate | score (the candidate of highest log-probability)
        max_new_tokens=placeholder(int),  # null: the task's
        test_max_new_tokens=placeholder(int),  # in tests; null: as many
        temperature=0.0,  # of the weak model's answers; 0: greedy. Models are always tested greedily
        top_p=1.0,  # of the sampled ones
        completion="raw",  # what students learn: raw (the text as written) | canonical (its answer in the task's form)
        learn_end=True,  # whether the end of text behind an answer is learnt; False: models write on behind it
        reading="rules",  # rules | first (the first character, word, or line as a whole number, as the authors' code)
        unparsed="class",  # an answer in which none is found: class | left_out | drop_question | trained
    )
    config.reliability = dict(
        percentile=50.0,  # of the entropies, which tau is
        ties="keep",  # of questions tied with tau: keep | split (by keyed draws)
        temperature=0.2,  # T of Eq. 4
        normalize="none",  # weights: none (Eq. 5) | batch | question (divided by their mean there)
    )
