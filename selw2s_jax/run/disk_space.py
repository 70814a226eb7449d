"""Disk space below a workdir: what is left of killed runs, and whether there is enough for the stages to run."""

import shutil

import ml_collections
from etils import epath

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import distributed, storage
from selw2s_jax.stages import stage as stage_lib


def discard_leftovers(stages: list[stage_lib.Stage], missing: set[str], workdir: epath.Path) -> None:
    """Removes what finished stages had saved under way, where a run was killed before it did."""
    finished = {stage.key for stage in stages} - missing

    def discard() -> None:
        for name in storage.names(workdir / "checkpoints"):
            if name in finished:
                storage.remove_tree(workdir / "checkpoints" / name)

    distributed.main_only(discard)


def check_free(todo: list[stage_lib.Stage], config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
    """Raises a `UserError` where stages to run need more than a local workdir has free."""
    if not storage.is_local(workdir):
        return
    weights = sum(stage.num_bytes for stage in todo)
    # Those kept and the one being written.
    largest = sorted((stage.state_bytes for stage in todo), reverse=True)[: config.mesh.num_groups]
    states = (config.checkpoint.keep + 1) * sum(largest)
    folders = [workdir / "checkpoints" / stage.key for stage in todo]
    saved = sum(sum(storage.files(folder).values()) for folder in folders if folder.is_dir())
    needed = weights + max(states - saved, 0)
    free = shutil.disk_usage(workdir).free
    if free < needed:
        raise UserError(
            f"workdir {workdir} has {free / 1e9:.3f} GB free, and the stages to run need {needed / 1e9:.3f} GB "
            f"({weights / 1e9:.3f} for weights and embeddings, the rest for the states of a run under way); "
            "free space, lower checkpoint.keep or choose another --workdir"
        )
