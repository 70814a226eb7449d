"""What a student of a run, its weak model and its language model say of your own questions.

python -m selw2s_jax.predict --workdir=DIR --task=NAME --method=NAME --seed=N --input=questions.jsonl --output=out.jsonl
"""

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError

_INPUT = flags.DEFINE_string("input", None, "JSON lines of questions, by text or by question and answer.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON lines to write, one for each question.")
_FOLDERS = {
    "base": "Folder of the pretrained strong model, which gives the few-shot answers; default where the run had it.",
    "tokenizer": "Folder of its tokenizer's files; default where the run had it.",
    "weak_base": "Folder of the pretrained weak model, if only a part was trained; default where the run had it.",
    "weak_tokenizer": "Folder of the weak model's tokenizer's files; default where the run had it.",
}
for _name, _what in _FOLDERS.items():
    flags.DEFINE_string(_name, None, _what)
cli.define_student_flags()


def main() -> None:
    for flag, what in ((_INPUT, "the file of questions"), (_OUTPUT, "the file to write")):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing; give {what}")
    from selw2s_jax.predict import predictions
    from selw2s_jax.run import students

    student = students.find(**cli.student_flags())
    folders = {name: flags.FLAGS[name].value for name in _FOLDERS}
    records = predictions.write(student, _INPUT.value, _OUTPUT.value, **folders)
    print(f"{len(records)} lines, one for each question, are in {_OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
