"""Writes a trained model of a run as a Hugging Face folder of safetensors.

python -m selw2s_jax.export --workdir=DIR [--task=NAME] --method=NAME [--seed=N] --output=FOLDER \
    [--dtype=bfloat16] [--lora=apart] [--push_to_hub=owner/name [--public]]
"""

import pathlib

from absl import flags

from selw2s_jax import cli
from selw2s_jax.errors import UserError


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "output", None, "Folder to write; it must not exist, or be empty.", flag_values=values
    )
    flags.DEFINE_string(
        "dtype", None, "Of the weights, as bfloat16; default as they were trained.", flag_values=values
    )
    flags.DEFINE_string(
        "tokenizer",
        None,
        "Folder of the tokenizer's files; default where the run had it.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "lora",
        "merged",
        "Of a student with low-rank adapters: merged into the weights, or apart, without those.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "base",
        None,
        "Folder of the pretrained model, of which only a part was trained; default where the run had it.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "push_to_hub",
        None,
        "owner/name on the Hugging Face hub, where the folder is sent too; a new one is private.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "public", False, "Of --push_to_hub: everyone may see a new repository.", flag_values=values
    )
    cli.define_student_flags(values)


def _run(values: flags.FlagValues) -> None:
    if not values.output:
        raise UserError("--output is missing; give the folder to write")
    if values.public and not values.push_to_hub:
        raise UserError("--public goes with --push_to_hub=owner/name")
    from selw2s_jax.experiments import plugins
    from selw2s_jax.export import exports
    from selw2s_jax.hf import upload
    from selw2s_jax.models import registry
    from selw2s_jax.run import students

    if values.push_to_hub:
        upload.check_name(values.push_to_hub)
    student = students.find(**cli.student_name(values))
    if student.config.family not in registry.FAMILIES:  # one of the user's own
        plugins.import_modules(student.run_config.get("plugins", ()))
    output, repo_id = values.output, values.push_to_hub
    if repo_id:  # before the work: who may not write there learns it now
        exports.check_output(output)
        upload.create(repo_id, private=not values.public)
    exports.save(
        student,
        output,
        dtype=values.dtype,
        adapters=values.lora,
        tokenizer_folder=values.tokenizer,
        base=values.base,
    )
    facts = student.facts
    print(
        f"{facts.method} on {facts.task}, seed {facts.seed}, is in {output}; its README.md says how to load it"
    )
    if repo_id:
        folder = pathlib.Path(output).expanduser()
        if paths := exports.paths_in(folder):
            print(f"note: its files name folders of this machine, which are sent too: {', '.join(paths)}")
        message = f"{facts.method} on {facts.task}, seed {facts.seed}, by selw2s_jax"
        print(f"sent to {upload.send(folder, repo_id, message=message)}")


def main(argv: list[str] | None = None) -> None:
    """The command: of this process, or with other arguments."""
    cli.run(_define_flags, _run, argv)


if __name__ == "__main__":
    main()
