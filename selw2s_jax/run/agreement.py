"""That all processes of a run, and all its shards, do the same in the same workdir."""

import secrets

import ml_collections
from etils import epath

from selw2s_jax import config as config_lib
from selw2s_jax import errors
from selw2s_jax.errors import UserError
from selw2s_jax.run import manifests as manifests_lib
from selw2s_jax.runtime import artifacts, distributed, storage


def check_same(facts: dict[str, str]) -> None:
    """Checks that facts of the start are the same on all processes.

    Raises:
        UserError: one is not.
    """
    distributed.check_equal(
        facts, "start every process with the same command, code, environment, data and models"
    )


def check_shared(workdir: epath.Path) -> None:
    """Checks that all processes see one workdir.

    Raises:
        UserError: some do not see what process 0 wrote.
    """
    if distributed.num_processes() == 1:
        return
    marker = workdir / f".shared-{distributed.broadcast(secrets.token_hex(8))}"
    distributed.main_only(lambda: marker.write_text(""))
    seen = distributed.gather(marker.exists())
    distributed.main_only(marker.unlink)
    if not all(seen):
        raise UserError(
            f"workdir {workdir} of process {seen.index(False)} is not that of process 0: choose a --workdir that "
            "all hosts share, such as a network file system or gs://"
        )


def check_shard(shard: tuple[int, int]) -> None:
    """UserError where it is no (i, n) with 0 <= i < n: no process would make what is left out."""
    number, count = shard
    if not 0 <= number < count:
        raise UserError(
            f"shard {number}/{count} must be i/n with 0 <= i < n, such as 0/4 for the first of four"
        )


def check_shards(config: ml_collections.ConfigDict, workdir: epath.Path, shard: tuple[int, int]) -> None:
    """Checks that the other shards, also those that have ended, were started with this config.

    A run that is finished is none of them.

    Args:
        shard: (i, n), this one of so many.

    Raises:
        UserError: one was started with another.
    """
    if shard[1] == 1:
        return
    content = storage.read_bytes(workdir / manifests_lib.CONFIG_FILE)
    if content is None:
        return
    try:
        other = errors.parse_json(content)
    except ValueError:
        return  # it is about to be written anew
    ours = config_lib.to_json(config)
    differing = config_lib.differing_keys(ours, other)
    if differing and not _is_finished(workdir):
        raise UserError(
            f"shard {shard[0]}/{shard[1]} has another config.{differing[0]} than the unfinished run in workdir "
            f"{workdir}: start all shards with the same command but for --shard, or choose another --workdir"
        )


def _is_finished(workdir: epath.Path) -> bool:
    """Whether the run in a workdir has all its stages."""
    manifests = manifests_lib.read_all(workdir).values()
    stages = [(stage["name"], stage["key"]) for manifest in manifests for stage in manifest["stages"]]
    return all(artifacts.is_there(workdir, name, key) for name, key in stages)
