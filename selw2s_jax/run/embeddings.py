"""Embeddings that a run has computed, found by workdir, model, split and seed from what the run kept alone."""

from typing import NamedTuple

import numpy as np
from etils import epath

from selw2s_jax.errors import UserError
from selw2s_jax.run import manifests
from selw2s_jax.runtime import artifacts
from selw2s_jax.stages import embed


class Embeddings(NamedTuple):
    """What a pretrained model makes of the texts of a split.

    Attributes:
        example_id: `[N]`.
        values: `[N, D]` float32: the final hidden state, after the final norm, at the last token of each text.
    """

    example_id: list[str]
    values: np.ndarray


def read(workdir: epath.PathLike, *, model: str, split: str, seed: int, run: str = "") -> Embeddings:
    """The embeddings of that name.

    Args:
        model: "weak" or "strong".
        split: "weak_half", "student_half", "test", "p_ik" or "p_ik_test".
        run: of a sweep, its name there.

    Raises:
        UserError: no such workdir or run; the run computes no such embeddings, or has not yet; or they are damaged.
    """
    workdir = epath.Path(workdir).expanduser()
    by_run = manifests.read_all(workdir)
    if run not in by_run:
        raise UserError(f"run={run!r} is not there: workdir {workdir} has {', '.join(map(repr, by_run))}")
    listed = {
        (entry["model"], entry["split"], entry["seed"]): entry["key"]
        for entry in by_run[run].get("embeddings", ())
    }
    if (model, split, seed) not in listed:
        there = "; ".join(f"model={of}, split={part}, seed={base}" for of, part, base in listed) or "none"
        raise UserError(
            f"the run in {workdir} computes no embeddings of model={model}, split={split}, seed={seed}, but: {there}"
        )
    artifact = artifacts.Store(workdir).find_by_key(embed.NAME, listed[model, split, seed])
    if artifact is None:
        raise UserError(
            f"the embeddings of model={model}, split={split}, seed={seed} are not made yet in {workdir}; run the same "
            "config there again, it continues"
        )
    ids = artifact.read_table(embed.IDS_FILE)["example_id"].tolist()
    return Embeddings(ids, artifact.read_array(embed.ARRAY_FILE))
