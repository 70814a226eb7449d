"""What a student of a run, its weak model and its language model say of your own questions; or what it answers to them.

python -m selw2s_jax.predict --workdir=DIR [--task=NAME] --method=NAME [--seed=N] --input=questions.jsonl \
    --output=out.csv [--variations=5]

Several models at once: --method=finetune,selective --seed=0,1.
"""

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError

_FOLDERS = {
    "base": "Folder of the pretrained strong model, which gives the few-shot answers; default where the run had it. "
    "Of a model that writes: that it was made from.",
    "tokenizer": "Folder of its tokenizer's files; default where the run had it.",
    "weak_base": "Folder of the pretrained weak model, if only a part was trained; default where the run had it.",
    "weak_tokenizer": "Folder of the weak model's tokenizer's files; default where the run had it.",
}


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "input", None, ".jsonl, .csv or .parquet of texts, or of questions and answers.", flag_values=values
    )
    flags.DEFINE_string(
        "output",
        None,
        "File to write, a line for each question: .jsonl, .csv or .parquet.",
        flag_values=values,
    )
    for name, what in _FOLDERS.items():
        flags.DEFINE_string(name, None, what, flag_values=values)
    flags.DEFINE_integer(
        "variations",
        None,
        "Of a model that writes: in how many prompts more each question is asked, to see whether the answers agree; "
        "default as in its run.",
        lower_bound=0,
        upper_bound=1_000,  # as of variations.count
        flag_values=values,
    )
    cli.define_student_flags(values, several=True)


def _run(values: flags.FlagValues) -> None:
    for flag, what in (("input", "the file of questions"), ("output", "the file to write")):
        if not values[flag].value:
            raise UserError(f"--{flag} is missing; give {what}")
    from selw2s_jax.predict import several
    from selw2s_jax.run import students

    found = [students.find(**name) for name in cli.student_names(values)]
    options = {name: values[name].value for name in (*_FOLDERS, "variations")}
    records, lines = several.write(found, values.input, values.output, options)
    print("\n".join(lines))
    of_each = "one for each question" if len(found) == 1 else f"one for each question of {len(found)} models"
    print(f"{len(records)} lines, {of_each}, are in {values.output}")


def main(argv: list[str] | None = None) -> None:
    """The command: of this process, or with other arguments."""
    cli.run(_define_flags, _run, argv)


if __name__ == "__main__":
    main()
