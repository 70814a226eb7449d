"""A pretrained model that was found and checked, and what is built on it.

A classifier; a language model that is trained to write; or the model as it is, to be asked for answers.
"""

import dataclasses
import pathlib
from typing import Any, ClassVar

import jax
from flax import nnx

from selw2s_jax.data import model_names
from selw2s_jax.errors import UserError
from selw2s_jax.hf import loader, tokenizers
from selw2s_jax.models import decoder, heads, language_model, lora, registry, shapes


@dataclasses.dataclass(frozen=True)
class Model:
    """A pretrained model that was found and checked.

    Attributes:
        role: "weak", "strong", or "chain" of a model between the two.
        name: as the config has it; of a generated world with its seed and role.
        folder: local folder of its files.
        fingerprint: hash of its weights, config and tokenizer; of its recipe where it is yet to be made.
        is_made: whether the run itself makes it; else it is there.
        max_length: longest example it is given, in tokens.
        number: of several models with one role; 0 for the first; those of a chain are counted from 1.
        given_title: what it is called, where the config or another model of that name says so.
    """

    role: str
    name: str
    folder: pathlib.Path
    config: registry.ModelConfig
    tokenizer: tokenizers.Tokenizer
    fingerprint: str
    learning_rate: float
    max_length: int
    is_made: bool = False
    number: int = 0
    given_title: str | None = None

    @property
    def title(self) -> str:
        """What readers know it by."""
        return self.given_title or model_names.short(self.name)

    @property
    def slot(self) -> str:
        """Which model of a run it is: "weak" or "strong", and "weak-1", "chain-1" and so on of several of a role."""
        return f"{self.role}-{self.number}" if self.number else self.role


def default_learning_rate(config: registry.ModelConfig) -> float:
    """The fine-tuning rate of a model of that size, as openai/weak-to-strong has it for GPT-2 and Qwen.

    5e-5 up to the width of GPT-2 medium, 1e-5 above; other families by their width too.
    """
    return 5e-5 if config.embed_dim <= registry.MODELS["gpt2-medium"].config.embed_dim else 1e-5


@dataclasses.dataclass(frozen=True)
class _TrainedSettings:
    """How what is trained is built on a pretrained model, and which part of it is trained.

    Attributes:
        trained: what of it is, of `training.state.TRAINED`.
        param_dtype: of what is trained.
        compute_dtype: as for `decoder.Decoder`.
        mesh: the devices that it is laid out on.
        frozen_dtype: of a backbone that is only read; default the dtype that it computes in.
        adapters, seed: as for `heads.Classifier` and `language_model.LanguageModel`.
        remat, attention: as for `decoder.Decoder`.
    """

    lm_head: ClassVar[bool]

    trained: str
    param_dtype: str
    compute_dtype: str
    mesh: jax.sharding.Mesh
    frozen_dtype: str | None = None
    adapters: lora.Settings | None = None
    seed: int = 0
    remat: str = "full"
    attention: str = "xla"

    @property
    def decoder_options(self) -> dict[str, Any]:
        """Of the backbone, as `decoder.Decoder` takes them."""
        frozen_dtype = self.frozen_dtype or self.compute_dtype
        return {
            "param_dtype": self.param_dtype if self.trained == "all" else frozen_dtype,
            "compute_dtype": self.compute_dtype,
            "lm_head": self.lm_head,
            "remat": self.remat,
            "attention": self.attention,
            "mesh": self.mesh,
        }


@dataclasses.dataclass(frozen=True)
class ClassifierSettings(_TrainedSettings):
    """How a classifier is built.

    Attributes:
        p_ik_head: as for `heads.Classifier`.
    """

    lm_head = False
    p_ik_head: bool = False


@dataclasses.dataclass(frozen=True)
class LanguageModelSettings(_TrainedSettings):
    """How a language model is built that is trained: whole, or its adapters.

    Raises:
        UserError: `trained` is "heads", of which it has none.
    """

    lm_head = True

    def __post_init__(self):
        if self.trained == "heads":
            raise UserError(
                "config.training.trained='heads' trains the heads of a classifier, and a model that writes answers has "
                "none: choose lora or all"
            )


def load_classifier(folder: pathlib.Path, settings: ClassifierSettings) -> heads.Classifier:
    """A classifier before training: the model of a folder, read into shards, with new heads and adapters.

    Raises:
        UserError: as `loader.load_decoder`.
    """
    return add_heads(loader.load_decoder(folder, **settings.decoder_options), settings)


def abstract_classifier(config: registry.ModelConfig, settings: ClassifierSettings) -> heads.Classifier:
    """A classifier as `load_classifier` makes it, of shapes only: no weight is made."""
    return shapes.of(random_classifier, config, settings)


def random_classifier(
    config: registry.ModelConfig, settings: ClassifierSettings, *, seed: int = 0
) -> heads.Classifier:
    """A classifier on a decoder of random weights, whole on one device: to be traced, or for small models.

    Args:
        seed: of the decoder.
    """
    backbone = decoder.Decoder(config, rngs=nnx.Rngs(seed), **settings.decoder_options)
    return add_heads(backbone, settings)


def probe(config: registry.ModelConfig, settings: ClassifierSettings) -> heads.Probe:
    """New heads of a classifier, to be trained on embeddings of the model without it."""
    return heads.Probe(config.embed_dim, p_ik_head=settings.p_ik_head, param_dtype=settings.param_dtype)


def add_heads(backbone: decoder.Decoder, settings: ClassifierSettings) -> heads.Classifier:
    """A classifier on a backbone, with new heads and adapters."""
    return heads.Classifier(
        backbone,
        p_ik_head=settings.p_ik_head,
        adapters=settings.adapters,
        seed=settings.seed,
        param_dtype=settings.param_dtype,
    )


def load_trainable(folder: pathlib.Path, settings: LanguageModelSettings) -> language_model.LanguageModel:
    """A language model before training: the model of a folder, read into shards, with new adapters.

    Raises:
        UserError: as `loader.load_decoder`; or the model has no weight of such a name as the adapters' targets have.
    """
    return _adapt(loader.load_decoder(folder, **settings.decoder_options), settings)


def abstract_trainable(
    config: registry.ModelConfig, settings: LanguageModelSettings
) -> language_model.LanguageModel:
    """A language model as `load_trainable` makes it, of shapes only: no weight is made."""
    return shapes.of(random_trainable, config, settings)


def random_trainable(
    config: registry.ModelConfig, settings: LanguageModelSettings
) -> language_model.LanguageModel:
    """A language model of random weights, whole on one device: to be traced, or for small models."""
    return _adapt(decoder.Decoder(config, rngs=nnx.Rngs(0), **settings.decoder_options), settings)


def _adapt(backbone: decoder.Decoder, settings: LanguageModelSettings) -> language_model.LanguageModel:
    return language_model.LanguageModel(
        backbone, adapters=settings.adapters, seed=settings.seed, param_dtype=settings.param_dtype
    )


def language_model_options(*, dtype: str, mesh: jax.sharding.Mesh, attention: str = "xla") -> dict[str, Any]:
    """Options of a `decoder.Decoder` that is asked for answers: only read, so held in the dtype that it computes in."""
    return {
        "param_dtype": dtype,
        "compute_dtype": dtype,
        "lm_head": True,
        "attention": attention,
        "mesh": mesh,
    }


def load_language_model(
    folder: pathlib.Path, *, dtype: str, mesh: jax.sharding.Mesh, attention: str = "xla"
) -> decoder.Decoder:
    """The model of a folder with its language-model head, to be asked for answers.

    Raises:
        UserError: as `loader.load_decoder`.
    """
    return loader.load_decoder(folder, **language_model_options(dtype=dtype, mesh=mesh, attention=attention))
