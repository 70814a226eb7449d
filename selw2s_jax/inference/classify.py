"""Class probabilities and P(IK) of a trained classifier over a whole split."""

import contextlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.inference import partials
from selw2s_jax.models import decoder, heads
from selw2s_jax.runtime import preemption, progress

_MOST_EMBEDDINGS = 4096  # that are scored at once


class NotFiniteError(ArithmeticError):
    """What a model says of an example is no finite number: NaN, or infinite.

    Attributes:
        index: of the example.
    """

    def __init__(self, index: int):
        super().__init__(f"of example {index}")
        self.index = index


@contextlib.contextmanager
def naming(what: str, example_ids: Sequence[str], remedy: str) -> Iterator[None]:
    """Tells of a `NotFiniteError` in here as a UserError.

    Args:
        what: is not finite.
        example_ids: `[N]`, of the examples.
    """
    try:
        yield
    except NotFiniteError as error:
        raise UserError(
            f"{what} for {example_ids[error.index]} are not finite numbers (NaN or infinite), and nothing is kept of "
            f"them: {remedy}"
        ) from error


def predict(
    model: heads.Classifier,
    tokens: Sequence[np.ndarray],
    *,
    mesh: jax.sharding.Mesh,
    batch_tokens: int,
    label: str,
    openai_pooling: bool = False,
    partial: partials.Partial | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores every example once.

    Args:
        tokens: ids of each of N examples.
        batch_tokens: token slots of a batch, about.
        label: name in progress lines.
        partial: what is done already, and where it is kept.

    Returns:
        Class probabilities `[N, 2]` and P(IK) `[N]` (None without that head), float32.

    Raises:
        NotFiniteError: a score is no finite number.
        Preempted: the run was told to stop.
    """
    graphdef, params = nnx.split(model)
    return score(
        class_forward,
        graphdef,
        params,
        tokens,
        mesh=mesh,
        batch_tokens=batch_tokens,
        label=label,
        openai_pooling=openai_pooling,
        partial=partial,
    )


def class_forward(graphdef, params, batch: batches.Batch):
    """What `score` runs on a batch for `predict`: class probabilities `[E, 2]` and P(IK) `[E]`, if any, float32."""
    return _probabilities(outputs_of(nnx.merge(graphdef, params), batch))


def outputs_of(model: heads.Classifier, batch: batches.Batch) -> heads.Outputs:
    """What a classifier says of the examples of a batch for scoring."""
    micro = jax.tree.map(lambda x: x[0], batch)
    example = (micro.tokens, micro.segment_ids, micro.positions, micro.row, micro.last)
    return model(*example, reads=micro.reads)


def predictor(
    tokens: Sequence[np.ndarray],
    *,
    mesh: jax.sharding.Mesh,
    batch_tokens: int,
    openai_pooling: bool = False,
) -> Callable[[heads.Classifier], np.ndarray]:
    """What asks one classifier after the other about the same examples; arguments as for `predict`.

    The batches, made once, and the program are those of `predict`, and so is every bit of what it says. It neither
    stops when it is told to nor shows its progress: a training does both.

    Returns:
        model -> the probability of class 1 `[N]` float32; raises a NotFiniteError where one is no finite number.
    """
    run = jax.jit(class_forward, static_argnums=0, out_shardings=sharding.replicated(mesh))
    planned = list(
        batches.score_batches(
            tokens,
            batch_tokens=batch_tokens,
            row_multiple=sharding.num_row_groups(mesh),
            openai_pooling=openai_pooling,
        )
    )

    def ask(model: heads.Classifier) -> np.ndarray:
        graphdef, params = nnx.split(model)
        probs = np.empty(len(tokens), np.float32)
        for (of_classes, _), members in in_turn(lambda batch: run(graphdef, params, batch), planned, mesh):
            probs[members] = of_classes[: len(members), 1]  # of an example scored twice, the later one
        if (wrong := _first_not_finite([probs])) is not None:
            raise NotFiniteError(wrong)
        return probs

    return ask


def embed(
    model: decoder.Decoder,
    tokens: Sequence[np.ndarray],
    *,
    batch_tokens: int,
    label: str,
    openai_pooling: bool = False,
    partial: partials.Partial | None = None,
) -> np.ndarray:
    """Reads every example once; arguments and errors as for `predict`.

    Returns:
        What heads read of each example, `[N, D]` float32.
    """
    graphdef, params = nnx.split(model)
    return score(
        embed_forward,
        graphdef,
        params,
        tokens,
        mesh=model.mesh,
        batch_tokens=batch_tokens,
        label=label,
        openai_pooling=openai_pooling,
        partial=partial,
    )


def embed_forward(graphdef, params, batch: batches.Batch, cache=None):
    """What `score` runs on a batch for `embed`: [E, D] float32; `cache` as for `heads.embed`."""
    return heads.embed(
        nnx.merge(graphdef, params),
        batch.tokens[0],
        batch.segment_ids[0],
        batch.positions[0],
        batch.row[0],
        batch.last[0],
        reads=batch.reads[0],
        cache=cache,
    )


def predict_embedded(
    probe: heads.Probe, embeddings: np.ndarray, *, mesh: jax.sharding.Mesh
) -> tuple[np.ndarray, np.ndarray | None]:
    """As `predict`, of embeddings `[N, D]` as `embed` makes them; not to be stopped."""
    graphdef, params = nnx.split(probe)
    whole = sharding.replicated(mesh)
    run = jax.jit(probe_forward, static_argnums=0, out_shardings=whole)
    num_parts = -(-len(embeddings) // _MOST_EMBEDDINGS)
    num_rows = -(-len(embeddings) // num_parts)  # the same in all parts, so that one program is compiled
    padded = np.pad(embeddings, ((0, num_parts * num_rows - len(embeddings)), (0, 0)))
    parts = [
        jax.device_get(run(graphdef, params, sharding.put(part, whole)))
        for part in np.split(padded, num_parts)
    ]
    scores = jax.tree.map(lambda *scores: np.concatenate(scores)[: len(embeddings)], *parts)
    if (wrong := _first_not_finite(jax.tree.leaves(scores))) is not None:
        raise NotFiniteError(wrong)
    return scores


def probe_forward(graphdef, params, embeddings: jax.Array):
    """What `predict_embedded` runs on embeddings [E, D]: as `class_forward`."""
    return _probabilities(nnx.merge(graphdef, params)(embeddings))


def _probabilities(outputs: heads.Outputs):
    p_ik = None if outputs.p_ik_logits is None else jax.nn.softmax(outputs.p_ik_logits, axis=-1)[:, 1]
    return jax.nn.softmax(outputs.class_logits, axis=-1), p_ik


def score(
    forward: Callable[..., Any],
    static: Hashable,
    params: Any,
    tokens: Sequence[np.ndarray],
    *,
    mesh: jax.sharding.Mesh,
    batch_tokens: int,
    label: str,
    past_slots: int = 0,
    keep: Sequence[int] | None = None,
    openai_pooling: bool = False,
    partial: partials.Partial | None = None,
):
    """Runs `forward(static, params, batch) -> pytree of [E, ...]` over all examples, back in their order.

    `forward` is a function of a module and `static` hashable, so that runs of one shape compile once. `past_slots` are
    keys that `forward` lets every row attend to besides its own, `keep` how many last tokens of each example it reads,
    by default one: `Batch.reads`.

    Returns:
        The pytree with `[N, ...]` NumPy arrays.

    Raises:
        NotFiniteError: a score is no finite number; what is done already is not kept.
    """
    run = jax.jit(forward, static_argnums=0, out_shardings=sharding.replicated(mesh))
    planned = list(
        batches.score_batches(
            tokens,
            batch_tokens=batch_tokens,
            row_multiple=sharding.num_row_groups(mesh),
            past_slots=past_slots,
            keep=keep,
            openai_pooling=openai_pooling,
        )
    )
    structure = jax.tree.structure(run.eval_shape(static, params, planned[0][0]))
    index, scores = (np.zeros(0, np.int64), []) if partial is None else partial.load()
    if _first_not_finite(scores) is not None:
        index = index[:0]  # kept by an earlier version
    parts = [(index, scores)] if len(index) else []
    is_done = np.zeros(len(tokens), bool)
    is_done[index] = True
    left = [(batch, members) for batch, members in planned if not is_done[members].all()]
    shown = progress.track(
        left, total=len(planned), done=len(planned) - len(left), label=label, unit="batches"
    )

    told = _until_told(shown, parts, partial, label)
    for outputs, members in in_turn(lambda batch: run(static, params, batch), told, mesh):
        leaves = [leaf[: len(members)] for leaf in jax.tree.leaves(outputs)]
        if (wrong := _first_not_finite(leaves)) is not None:
            raise NotFiniteError(int(members[wrong]))
        parts.append((members, leaves))
    if partial is not None:
        partial.settle()
    index, scores = _join(parts)
    order = np.empty(len(tokens), np.int64)
    order[index] = np.arange(len(index))  # of an example scored twice, the later one
    return jax.tree.unflatten(structure, [array[order] for array in scores])


def _until_told(
    planned: Iterable[Any], parts: list[tuple[np.ndarray, Any]], partial: partials.Partial | None, label: str
) -> Iterator[Any]:
    """Batches, until the run is told to stop; what is done, `parts`, is saved between them."""
    for one in planned:
        is_told = preemption.reached()
        if partial is not None and parts and (is_told or partial.is_due()):
            partial.save(*_join(parts))
        if is_told:
            if partial is not None:
                partial.settle()
            raise preemption.Preempted(f"stopped before the end of {label}")
        yield one


def _first_not_finite(leaves: Sequence[np.ndarray]) -> int | None:
    """The first example with a value that is not finite, of arrays `[n, ...]` each."""
    wrong = [
        np.flatnonzero(~np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1)) for leaf in leaves if len(leaf)
    ]
    return min((int(found[0]) for found in wrong if len(found)), default=None)


def in_turn(
    run: Callable[[batches.Batch], Any], planned: Iterable[tuple[batches.Batch, Any]], mesh: jax.sharding.Mesh
) -> Iterator[tuple[Any, Any]]:
    """Runs batches one after the other, and reads what each gave.

    A batch is read only when the next one is on its way, so that the devices never wait for the host.

    Args:
        run: of a batch on the devices, as soon as it is called.
        planned: batches on the host, each with something that names it.

    Yields:
        The outputs of each batch as NumPy arrays, and its name.
    """
    pending = None
    for batch, name in planned:
        outputs = run(batches.device_batch(batch, mesh))
        if pending is not None:
            yield jax.device_get(pending[0]), pending[1]
        pending = outputs, name
    if pending is not None:
        yield jax.device_get(pending[0]), pending[1]


def _join(parts: list[tuple[np.ndarray, list[np.ndarray]]]) -> tuple[np.ndarray, list[np.ndarray]]:
    scores = zip(*(leaves for _, leaves in parts), strict=True)
    return np.concatenate([index for index, _ in parts]), [np.concatenate(leaf) for leaf in scores]
