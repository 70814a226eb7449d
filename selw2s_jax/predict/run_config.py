"""The config of the run that a trained model is of."""

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.run import students


def read(student: students.Student) -> ml_collections.ConfigDict:
    """The config of a student's run, with defaults for what came later.

    Raises:
        UserError: it is not as a run keeps it.
    """
    config = config_lib.default_config()
    try:
        for key in config_lib.dotted_keys(config):
            *sections, leaf = key.split(".")
            section, values = config, student.run_config
            for name in sections:
                section, values = section[name], values.get(name, {})
            if leaf in values:
                value = values[leaf]
                section[leaf] = tuple(value) if isinstance(value, list) else value
    except (TypeError, AttributeError) as error:
        raise UserError(
            f"the config of the run in {student.folder} cannot be read ({error}); run the same config there again"
        ) from error
    return config
