"""Low-rank adaptation (LoRA, Hu et al. 2021, arXiv 2106.09685): a frozen weight W becomes W + (alpha / rank) B A.

The sum is never formed in training: a branch of its own multiplies by A, then by B (Eq. 3 there). A starts uniform in
+-1/sqrt(inputs) as in the authors' code, B at zero, so that an adapted model starts as the one it adapts.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from selw2s_jax.errors import UserError
from selw2s_jax.models import decoder as decoder_lib
from selw2s_jax.models import family, layers

# What may be adapted -> the part of a layer (`layers.Block`) whose weights, biases apart, then all are.
PARTS = {"attention": "attn", "mlp": "mlp"}
# Single weights by their names in a layer; a family has some of them.
WEIGHTS = ("q", "k", "v", "qkv", "out", "up", "gate", "down")
TARGETS = (*PARTS, *WEIGHTS)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which weights are adapted, and how: the section `lora` of a config.

    Attributes:
        rank: of B A.
        alpha: the branch is scaled by alpha / rank.
        dropout: share of the branch's inputs that training sets to zero.
        targets: of `TARGETS`; one that names a single weight must be of the model's family.
    """

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def make_settings(trained: str, section: Mapping[str, Any]) -> Settings | None:
    """Settings of a config's section `lora`, None where `training.trained` has no use for it."""
    if trained != "lora":
        return None
    return Settings(**dict(section) | {"targets": tuple(sorted(set(section["targets"])))})


class Dropout(NamedTuple):
    """What dropout is a function of, besides the adapters' seeds: neither of packing, nor of devices.

    `example` tells the examples of a step apart, 0 for padding.
    """

    step: jax.Array  # [] int32
    example: jax.Array  # [R, T] int32
    position: jax.Array  # [R, T] int32, in the example

    def at(self, columns: jax.Array) -> "Dropout":
        """Of the tokens at columns [R, A] of the rows."""
        example, position = (layers.take_columns(x, columns) for x in (self.example, self.position))
        return Dropout(self.step, example, position)


class Seed(nnx.Variable):
    """Seeds of an adapter's dropout: no parameters."""


class Adapter(nnx.Module):
    """A and B of one weight, stacked over layers, or within the decoder's scan of one layer.

    Args:
        weight: the stacked weight, or its shape; its metadata tells inputs from outputs.
        key: the random key that A and the dropout are a function of.
        param_dtype: of A and B.
        model: settings of the decoder.
    """

    def __init__(self, weight: nnx.Param, settings: Settings, key: jax.Array, param_dtype, model):
        self.settings, self.model = settings, model
        num_layers, *sizes = weight.shape
        axes = weight.get_metadata()["axes"][1:]
        inputs = weight.get_metadata()["inputs"]
        inner = [(size, axis) for size, axis in zip(sizes, axes, strict=True) if axis in inputs]
        outer = [(size, axis) for size, axis in zip(sizes, axes, strict=True) if axis not in inputs]
        key_a, key_dropout = jax.random.split(key)
        bound = math.prod(size for size, _ in inner) ** -0.5
        shape = (num_layers, settings.rank, *(size for size, _ in inner))
        a = jax.random.uniform(key_a, shape, jnp.float32, -bound, bound).astype(param_dtype)
        self.a = nnx.Param(a, axes=("layers", "rank", *(axis for _, axis in inner)))
        b = jnp.zeros((num_layers, *(size for size, _ in outer), settings.rank), param_dtype)
        self.b = nnx.Param(b, axes=("layers", *(axis for _, axis in outer), "rank"))
        self.seed = Seed(jax.random.bits(key_dropout, (num_layers,), jnp.uint32), axes=("layers",))

    def __call__(
        self, spec: str, x: jax.Array, *, dropout: Dropout | None, part: tuple[int, int] | None = None
    ) -> jax.Array:
        """The branch beside `layers.project(spec, x, weight, ...)` of a layer, in the compute dtype.

        Args:
            part: as for `layers.slice_part`, of a weight of which no more is multiplied by.
        """
        if dropout is not None:
            x = self._drop(x, dropout)
        x_axes, weight_axes, out_axes = spec.replace("->", ",").split(",")
        inner = "".join(axis for axis in weight_axes if axis not in out_axes)
        outer = "".join(axis for axis in weight_axes if axis in out_axes)
        low_axes = "".join(axis for axis in x_axes if axis not in inner) + "k"
        low = layers.project(f"{x_axes},k{inner}->{low_axes}", x, self.a, self.model)
        b = self.b[...] if part is None else layers.slice_part(self.b[...], outer, part)
        high = layers.project(f"{low_axes},{outer}k->{out_axes}", low, b, self.model)
        return self.settings.scale * high

    def _drop(self, x: jax.Array, dropout: Dropout) -> jax.Array:
        """Inverted dropout of x [R, T, ...], each token's mask drawn from a key of its own."""
        key = jax.random.fold_in(jax.random.key(self.seed[...]), dropout.step)
        keep = 1.0 - self.settings.dropout

        def draw(example, position):
            token_key = jax.random.fold_in(jax.random.fold_in(key, example), position)
            return jax.random.bernoulli(token_key, keep, x.shape[2:])

        kept = jax.vmap(jax.vmap(draw))(dropout.example, dropout.position)
        return jnp.where(kept, x / keep, 0.0).astype(x.dtype)

    def product(self, weight: nnx.Param) -> jax.Array:
        """(alpha / rank) B A in the shape of the stacked weight, float32."""
        axes = weight.get_metadata()["axes"][1:]
        letters = dict(zip(axes, "abcdefgh", strict=False))
        inner = "".join(letters[axis] for axis in self.a.get_metadata()["axes"][2:])
        outer = "".join(letters[axis] for axis in self.b.get_metadata()["axes"][1:-1])
        return self.settings.scale * jnp.einsum(
            f"lk{inner},l{outer}k->l{''.join(letters.values())}",
            self.a[...].astype(jnp.float32),
            self.b[...].astype(jnp.float32),
            precision=jax.lax.Precision.HIGHEST,
        )


class Adapters(nnx.Module):
    """The adapters of a decoder, by name of the weight in a layer, as "attn.qkv".

    Args:
        decoder: with arrays or shapes.
        seed: of A and of the dropout.
        param_dtype: of A and B.
    """

    def __init__(self, decoder, settings: Settings, *, seed, param_dtype):
        self.settings = settings
        weights = target_weights(decoder, settings.targets)
        self.names = tuple(weights)
        for number, (name, weight) in enumerate(weights.items()):
            key = jax.random.fold_in(jax.random.key(seed), number)
            setattr(self, _attribute(name), Adapter(weight, settings, key, param_dtype, decoder.settings))

    def __getitem__(self, name: str) -> Adapter:
        return getattr(self, _attribute(name))

    def branches(self, dropout: Dropout | None) -> dict[str, Callable[[str, jax.Array], jax.Array]]:
        """`branch(spec, x)` of each weight, as `layers.project` takes it."""
        return {name: functools.partial(self[name], dropout=dropout) for name in self.names}


def adapt(decoder, settings: Settings | None, *, seed, param_dtype=None) -> Adapters | None:
    """The adapters of a decoder, None where it has none.

    Args:
        param_dtype: of A and B; default the decoder's.
    """
    if settings is None:
        return None
    dtype = decoder.settings.param_dtype if param_dtype is None else jnp.dtype(param_dtype)
    return Adapters(decoder, settings, seed=seed, param_dtype=dtype)


def _attribute(name: str) -> str:
    return name.replace(".", "_")


def target_weights(decoder, targets) -> dict[str, nnx.Param]:
    """The stacked weights of a decoder that targets mean, by name in a layer, as "attn.qkv".

    Raises:
        UserError: the decoder has no weight of such a name.
    """
    names = {target: [] for target in PARTS}
    weights = {}
    for target, part in sorted(PARTS.items()):
        for name, weight in sorted(vars(getattr(decoder.layers, part)).items()):
            if isinstance(weight, nnx.Param) and weight.get_metadata().get("inputs") is not None:
                weights[f"{part}.{name}"] = weight
                names[target].append(f"{part}.{name}")
                names[name] = [f"{part}.{name}"]
    if unknown := [target for target in targets if target not in names]:
        raise UserError(
            f"config.lora.targets={unknown[0]!r} is no weight of the family {decoder.config.family}, which has "
            f"{', '.join(names)}"
        )
    chosen = {name for target in targets for name in names[target]}
    return {name: weight for name, weight in weights.items() if name in chosen}


def check_targets(config: family.ModelConfig, targets) -> None:
    """Raises a UserError for a target that a model of these sizes does not have."""
    target_weights(decoder_lib.abstract_decoder(config), targets)


def merge(model) -> None:
    """Adds (alpha / rank) B A to the weights of a `backbone`, in their dtype, and takes the `adapters` away.

    Args:
        model: a `heads.Classifier` or a `language_model.LanguageModel`.
    """
    adapters = model.adapters
    for name, weight in target_weights(model.backbone, adapters.settings.targets).items():
        weight.set_value(_add(weight.get_value(), adapters[name].product(weight)))
    model.adapters = None


@functools.partial(jax.jit, donate_argnums=0)
def _add(weight: jax.Array, product: jax.Array) -> jax.Array:
    return (weight.astype(jnp.float32) + product).astype(weight.dtype)


@functools.cache  # as that of `decoder.num_params`
def num_params(config: family.ModelConfig, settings: Settings) -> int:
    """The number of parameters of a decoder's adapters."""
    backbone = decoder_lib.abstract_decoder(config)
    adapters = nnx.eval_shape(lambda: Adapters(backbone, settings, seed=0, param_dtype="float32"))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(adapters, nnx.Param)))
