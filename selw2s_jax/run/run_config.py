"""The config of a finished run, from what its workdir keeps."""

from collections.abc import Mapping
from typing import Any

import ml_collections
from etils import epath

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.run import students


def read(student: students.Student) -> ml_collections.ConfigDict:
    """`from_json` of the run that a trained model is of."""
    return from_json(student.run_config, student.folder)


def from_json(kept: Mapping[str, Any], folder: epath.PathLike) -> ml_collections.ConfigDict:
    """A config, with defaults for what came later.

    Args:
        kept: as a manifest has it.
        folder: of the manifest, for the message.

    Raises:
        UserError: it is not as a run keeps it.
    """
    try:
        return config_lib.from_json(kept, ignore_unknown=True)
    except UserError as error:
        raise UserError(
            f"the config of the run in {folder} cannot be read ({error}); run the same config there again"
        ) from error
