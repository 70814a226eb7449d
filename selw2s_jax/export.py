"""Writes a trained model of a run as a Hugging Face folder of safetensors.

python -m selw2s_jax.export --workdir=DIR --task=NAME --method=NAME --seed=N --output=FOLDER [--dtype=bfloat16]
"""

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError

_OUTPUT = flags.DEFINE_string("output", None, "Folder to write; it must not exist, or be empty.")
_DTYPE = flags.DEFINE_string("dtype", None, "Of the weights, as bfloat16; default as they were trained.")
_TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "Folder of the tokenizer's files; default where the run had it."
)
cli.define_student_flags()


def main() -> None:
    if not _OUTPUT.value:
        raise UserError("--output is missing; give the folder to write")
    from selw2s_jax import students

    student = students.find(**cli.student_flags())
    output = _OUTPUT.value
    students.save_exported(student, output, dtype=_DTYPE.value, tokenizer_folder=_TOKENIZER.value)
    facts = student.facts
    print(
        f"{facts.method} on {facts.task}, seed {facts.seed}, is in {output}; its README.md says how to load it"
    )


if __name__ == "__main__":
    cli.run(main)
