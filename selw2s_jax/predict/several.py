"""One file of questions asked of one trained model of a run, or of several: methods and seeds."""

import os
from collections.abc import Sequence
from typing import Any

from selw2s_jax.errors import UserError
from selw2s_jax.predict import forms, tables
from selw2s_jax.run import students
from selw2s_jax.runtime import compilation_cache


def write(
    asked_of: Sequence[students.Student],
    input_path: os.PathLike | str,
    output_path: os.PathLike | str,
    options: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Writes what each model says of each question, model by model: all of it, or nothing.

    Where there are several, records have `method` and `seed` first. Weak and untouched models that several students
    share are asked once.

    Args:
        asked_of: of one task.
        output_path: as for `tables.write`.
        options: by flag, None where it is not given.

    Returns:
        The records, and a summary for people.

    Raises:
        UserError: a flag, a file, a folder, a model or a question is not fit, before any device work; or a trained
            model is damaged.
    """
    suffix = tables.check_output(input_path, output_path)
    prepared = []
    for student in asked_of:
        form = forms.FORMS[student.facts.supervision]
        prepared.append((form, form.prepare(student, input_path, **_of_form(form, student, options))))
    if len({form for form, _ in prepared}) > 1:
        raise UserError(
            "--method names models that judge answers and models that write them, whose output has other columns: ask "
            "them one after another"
        )
    for note in dict.fromkeys(note for _, asked in prepared for note in asked.notes):
        print(f"note: {note}", flush=True)
    compilation_cache.enable()
    records, lines, known = [], [], {}
    for form, asked in prepared:
        facts, found = asked.student.facts, form.answer(asked, known)
        name = {"method": facts.method, "seed": facts.seed} if len(prepared) > 1 else {}
        records += [name | record for record in found]
        lines += [
            f"{facts.method}, seed {facts.seed}:",
            *(f"  {line}" for line in form.summarize(asked, found)),
        ]
    columns = prepared[0][0].columns(records)
    types = dict(columns.types) | {"method": "string", "seed": "int64"}
    tables.write(output_path, records, suffix, columns._replace(types=types))
    return records, lines


def _of_form(form: forms.Form, student: students.Student, options: dict[str, Any]) -> dict[str, Any]:
    given = [name for name, value in options.items() if value is not None and name not in form.flags]
    if given:
        raise UserError(
            f"--{given[0]} is for models of another supervision than {student.facts.supervision}, which "
            f"--method={student.facts.method} has; leave it out"
        )
    return {name: options.get(name) for name in form.flags}
