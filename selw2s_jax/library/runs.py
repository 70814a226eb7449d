"""`selw2s_jax.run` and `selw2s_jax.load_run`, which say what these do."""

import contextlib
import os
from collections.abc import Iterator

import ml_collections

from selw2s_jax.errors import UserError
from selw2s_jax.library import results
from selw2s_jax.run import agreement, pipeline
from selw2s_jax.runtime import faults, places


def run(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], *, shard: tuple[int, int] = (0, 1)
) -> results.Results:
    """As `selw2s_jax.run`."""
    with _told_in_one_line():
        agreement.check_shard(shard)
        places.check_compilation_cache()
        pipeline.run(config, workdir, shard=shard)
    return load_run(workdir)


def load_run(workdir: str | os.PathLike[str]) -> results.Results:
    """As `selw2s_jax.load_run`."""
    with _told_in_one_line():
        return results.Results(workdir)


@contextlib.contextmanager
def _told_in_one_line() -> Iterator[None]:
    """Raises faults of the environment as a UserError, as the commands tell them."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (explained := faults.explain(error)) is None:
            raise
        raise UserError(explained) from error
