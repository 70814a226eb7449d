"""Adapters in the file layout of PEFT (Hugging Face): adapter_config.json and adapter_model.safetensors.

Every adapted module of the pretrained model has `lora_A.weight` [rank, inputs] and `lora_B.weight` [outputs, rank].
"""

import math
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from etils import epath
from flax import nnx

from selw2s_jax import errors
from selw2s_jax.hf import weight_files, writer
from selw2s_jax.models import decoder, heads, key_tables, language_model, lora, registry

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."

Adapted = heads.Classifier | language_model.LanguageModel


def params(model: Adapted) -> dict[str, nnx.Param]:
    """The parameters of a model's adapters, by names as "attn.qkv.a"."""
    adapters = model.adapters
    return {f"{name}.{part}": getattr(adapters[name], part) for name in adapters.names for part in "ab"}


def _keys(model: Adapted) -> dict[str, list[str]]:
    """The keys of the layers of each parameter, in order."""
    config = model.backbone.config
    shapes = {path: v.shape for path, v in decoder.abstract_params(config, lm_head=False).items()}
    found: dict[str, list[str]] = {}
    for tensor in key_tables.tensors(registry.get_family(config.family).key_table, shapes):
        name = tensor.param.removeprefix("layers.")
        if name in model.adapters.names:
            module = _PREFIX + tensor.key.removesuffix(".weight")
            found.setdefault(f"{name}.a", []).append(f"{module}.lora_A.weight")
            found.setdefault(f"{name}.b", []).append(f"{module}.lora_B.weight")
    return found


def _file_shape(name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape in the file of a layer of a parameter [L, K, *inputs] or [L, *outputs, K]."""
    return (shape[1], math.prod(shape[2:])) if name.endswith(".a") else (math.prod(shape[1:-1]), shape[-1])


def save(
    folder,
    classifier: heads.Classifier,
    *,
    base: str | None,
    revision: str | None = None,
    dtype: str = "float32",
    main_head: str,
) -> None:
    """Writes a classifier's adapters, as PEFT reads them, and its heads, in heads.safetensors; no other weight.

    Args:
        folder, base, revision, dtype: as for `save_language_model`.
        main_head: the head that is also among the adapters' tensors, for families that transformers can classify with.
    """
    folder, extra = epath.Path(folder), {}
    family = classifier.backbone.config.family
    fields = {"task_type": None, "modules_to_save": None}
    if family in writer.TRANSFORMERS_CLASSIFIERS:
        _, head_key = writer.TRANSFORMERS_CLASSIFIERS[family]
        extra[_PREFIX + head_key] = getattr(classifier, main_head).get_value()
        fields = {"task_type": "SEQ_CLS", "modules_to_save": [head_key.removesuffix(".weight")]}
    writer.save_heads(folder, classifier, dtype=dtype)
    fields |= {"base_model_name_or_path": base, "revision": revision}
    _save(folder, classifier, fields, extra, dtype=dtype)


def save_language_model(
    folder,
    model: language_model.LanguageModel,
    *,
    base: str | None,
    revision: str | None = None,
    dtype: str = "float32",
) -> None:
    """Writes a language model's adapters, as PEFT reads them, and no other weight.

    Args:
        folder: made if missing.
        base: where PEFT finds the pretrained model, a folder or a name on the hub; None where nobody knows.
        revision: commit on the hub.
        dtype: as for `writer.save_checkpoint`.
    """
    fields = {"task_type": "CAUSAL_LM", "modules_to_save": None}
    fields |= {"base_model_name_or_path": base, "revision": revision}
    _save(epath.Path(folder), model, fields, {}, dtype=dtype)


def _save(
    folder: epath.Path, model: Adapted, fields: Mapping, extra: Mapping[str, jax.Array], *, dtype: str
) -> None:
    """Writes the adapters with further tensors, and their settings with further fields."""
    settings, by_name, arrays, modules = model.adapters.settings, params(model), {}, []
    for name, keys in _keys(model).items():
        value = by_name[name].get_value()
        for layer, key in enumerate(keys):
            arrays[key] = value[layer].reshape(_file_shape(name, value.shape))
        # As "attn.c_attn": "c_proj" alone would mean that of the MLP too.
        modules.append(".".join(keys[0].split(".")[-4:-2]))
    writer.save_tensors(folder / WEIGHTS_NAME, arrays | dict(extra), dtype=dtype)
    writer.write_json(
        folder / CONFIG_NAME,
        {
            "peft_type": "LORA",
            "bias": "none",
            "fan_in_fan_out": _stores_inputs_first(model),
            "inference_mode": True,
            "lora_alpha": settings.alpha,
            "lora_dropout": settings.dropout,
            "r": settings.rank,
            "target_modules": sorted(set(modules)),
            **fields,
        },
    )


def _stores_inputs_first(model: Adapted) -> bool:
    """Whether the family's weights are [inputs, outputs], as those of GPT-2's Conv1D."""
    settings = model.adapters.settings
    weights = lora.target_weights(model.backbone, settings.targets).values()
    (first,) = {weight.get_metadata()["axes"][1] in weight.get_metadata()["inputs"] for weight in weights}
    return first


def read(path: pathlib.Path, model: Adapted) -> Mapping[str, jax.Array]:
    """The arrays of the adapters in a file that was written here, by the names of `params` and in their shapes.

    Raises:
        UserError: the file is damaged, or of another model.
    """
    import safetensors

    shapes = {key: info.shape for key, info in weight_files.read_header(path).items()}
    by_name, keys = params(model), _keys(model)
    wanted = {
        key: _file_shape(name, by_name[name].shape) for name, of_layers in keys.items() for key in of_layers
    }
    if faults := [key for key, shape in wanted.items() if shapes.get(key) != shape]:
        raise errors.UserError(
            f"{path} lacks {weight_files.capped(faults)}, or has another shape of it; export the student again"
        )
    with safetensors.safe_open(path, framework="numpy") as file:
        return {
            name: jnp.stack([file.get_tensor(key) for key in of_layers]).reshape(by_name[name].shape)
            for name, of_layers in keys.items()
        }
