"""What the command `predict` writes of one model."""

from selw2s_jax.predict import several


def write(student, input_path, output_path, **options):
    """Its records, which then are in that file too; options are flags of the command."""
    records, _ = several.write([student], input_path, output_path, options)
    return records
