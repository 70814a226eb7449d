"""Writes a trained model of a run as a Hugging Face folder of safetensors.

python -m selw2s_jax.export --workdir=DIR --task=NAME --method=NAME --seed=N --output=FOLDER [--dtype=bfloat16] \
    [--lora=apart]
"""

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError

_OUTPUT = flags.DEFINE_string("output", None, "Folder to write; it must not exist, or be empty.")
_DTYPE = flags.DEFINE_string("dtype", None, "Of the weights, as bfloat16; default as they were trained.")
_TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "Folder of the tokenizer's files; default where the run had it."
)
_LORA = flags.DEFINE_string(
    "lora", "merged", "Of a student with low-rank adapters: merged into the weights, or apart, without those."
)
_BASE = flags.DEFINE_string(
    "base",
    None,
    "Folder of the pretrained model, of which only a part was trained; default where the run had it.",
)
cli.define_student_flags()


def main() -> None:
    if not _OUTPUT.value:
        raise UserError("--output is missing; give the folder to write")
    from selw2s_jax.export import exports
    from selw2s_jax.run import students

    student = students.find(**cli.student_flags())
    output = _OUTPUT.value
    exports.save(
        student,
        output,
        dtype=_DTYPE.value,
        adapters=_LORA.value,
        tokenizer_folder=_TOKENIZER.value,
        base=_BASE.value,
    )
    facts = student.facts
    print(
        f"{facts.method} on {facts.task}, seed {facts.seed}, is in {output}; its README.md says how to load it"
    )


if __name__ == "__main__":
    cli.run(main)
