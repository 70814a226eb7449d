"""From a Hugging Face folder or hub name to a decoder: found, checked whole, streamed into sharded arrays."""

import dataclasses
import difflib
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from selw2s_jax import errors, sharding
from selw2s_jax.hf import hub, model_folders, weight_files
from selw2s_jax.models import decoder, family, key_tables, registry
from selw2s_jax.runtime import preemption, remote

# The dtypes that weights may have in a file, and what their slices are read as. JAX has no float64 by
# default, so those are narrowed on the host.
READ_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float32"}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

fingerprint = weight_files.fingerprint


def resolve(name_or_path, revision: str | None = None) -> pathlib.Path:
    """The local folder of a checkpoint.

    Args:
        name_or_path: an existing folder (a gs:// one is copied; of one of the hub's cache, `models--org--name`, the
            snapshot is taken), a name of `registry.MODELS`, or a hub repository "org/name", which is downloaded (or
            found in the cache: HF_HOME and HF_HUB_OFFLINE are honoured).
        revision: branch, tag or commit on the hub; default that of the registry.

    Raises:
        UserError: no such folder, or as `hub.download`; a config.json that is not supported, before the weights come.
    """
    folder = remote.local_copy(name_or_path)
    try:
        if folder.is_dir():
            return model_folders.step_into(folder, revision)
        if folder.exists():
            raise errors.UserError(f"{folder} is a file: give the checkpoint's folder")
    except OSError as error:  # a name that no file can have, or a folder that is not to be looked into
        raise errors.UserError(
            f"checkpoint {str(folder)[:100]} cannot be looked at ({error.strerror}): give an existing folder "
            "or a hub name"
        ) from error
    name = str(name_or_path)
    if entry := registry.find_model(name):
        return hub.download(entry.hub_name, revision or entry.revision, check=read_model_config)
    if _HUB_NAME.fullmatch(name):
        return hub.download(name, revision, check=read_model_config)
    near = difflib.get_close_matches(name, registry.MODELS, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise errors.UserError(
        f"no checkpoint {name!r}{hint}: give an existing folder, a hub name org/name, or one of "
        f"{', '.join(registry.MODELS)}"
    )


def is_hub_name(name: str) -> bool:
    """Whether `resolve` looks for that name on the hub: it is one of the registry or org/name, and no folder here."""
    is_name = registry.find_model(name) is not None or _HUB_NAME.fullmatch(name) is not None
    return is_name and not pathlib.Path(name).is_dir()


@dataclasses.dataclass(frozen=True)
class _Source:
    """The tensor of a file that fills one parameter, or one layer of it."""

    tensor: key_tables.Tensor
    key: str  # as the file has it, with or without its prefix
    info: weight_files.TensorInfo


def check_checkpoint(folder, *, lm_head: bool) -> registry.ModelConfig:
    """Checks all that config.json and the weight files' headers tell, before any device work.

    Returns:
        The model's sizes.

    Raises:
        UserError: one line naming what is missing, damaged, unknown, unused or of a wrong shape.
    """
    return _plan(pathlib.Path(folder), lm_head)[0]


def _plan(folder: pathlib.Path, lm_head: bool) -> tuple[registry.ModelConfig, dict[str, list[_Source]]]:
    """The sizes, and for each parameter the tensors that fill it, in layer order."""
    config = read_model_config(folder)
    table = registry.get_family(config.family).key_table
    infos = weight_files.read_tensor_infos(folder)
    if config.num_layers > len(infos):  # before a tensor of each is listed
        raise errors.UserError(
            f"checkpoint {folder} does not fit its config.json ({config.num_layers} layers for {len(infos)} tensors): "
            "download the folder again, or correct config.json"
        )
    shapes = {path: v.shape for path, v in decoder.abstract_params(config, lm_head=lm_head).items()}
    wanted = {(tensor.param, tensor.layer): tensor for tensor in key_tables.tensors(table, shapes)}

    faults = {"missing": [], "unknown": [], "given twice": [], "of a wrong shape": [], "of a wrong dtype": []}
    found: dict[tuple[str, int | None], _Source] = {}
    head = None
    for key, info in infos.items():
        matched = key_tables.match(table, key) or key_tables.match(table, weight_files.plain_key(key))
        in_range = matched and (matched[1] is None or matched[1] < config.num_layers)
        if not in_range:
            faults["unknown"].append(key)
            continue
        row, layer = matched
        if row.param not in shapes:  # a deliberate skip, or a head that is tied or not asked for
            if row.param == "lm_head" and config.tie_embeddings:
                head = key, info
            continue
        tensor = wanted[row.param, layer]
        if (row.param, layer) in found:
            faults["given twice"].append(key)
        elif info.shape != tensor.shape:
            faults["of a wrong shape"].append(f"{key} {list(info.shape)} for {list(tensor.shape)}")
        elif info.dtype not in READ_DTYPES:
            faults["of a wrong dtype"].append(f"{key} {info.dtype}")
        found.setdefault((row.param, layer), _Source(tensor, key, info))
    # Of tensors that share memory safetensors keeps one name, which may be the head's.
    embedding = wanted["wte", None]
    if head is not None and ("wte", None) not in found and head[1].shape == embedding.shape:
        found["wte", None] = _Source(embedding, *head)
        faults["of a wrong dtype"] += [f"{head[0]} {head[1].dtype}"] * (head[1].dtype not in READ_DTYPES)
    faults["missing"] = [tensor.key for place, tensor in wanted.items() if place not in found]

    if any(faults.values()):
        listed = "; ".join(f"{what}: {weight_files.capped(keys)}" for what, keys in faults.items() if keys)
        raise errors.UserError(
            f"checkpoint {folder} does not fit its config.json ({listed}): download the folder again, or "
            "correct config.json"
        )
    if head is not None:
        _check_tied(folder, _Source(embedding, *head), found["wte", None])
    sources: dict[str, list[_Source]] = {}
    for place in wanted:
        sources.setdefault(place[0], []).append(found[place])
    return config, sources


# Of a head and an embedding, from the first to the last: what was trained apart differs everywhere.
_ROWS_COMPARED = 16


def _check_tied(folder: pathlib.Path, head: _Source, embedding: _Source) -> None:
    """Checks that a head that config.json ties to the embedding is the embedding, where the files have both."""
    if head.key == embedding.key:
        return
    is_same = head.info.shape == embedding.info.shape and head.info.dtype in READ_DTYPES
    for row in np.linspace(0, embedding.info.shape[0] - 1, _ROWS_COMPARED, dtype=int) if is_same else ():
        bounds = ((int(row), int(row) + 1), (0, embedding.info.shape[1]))
        ours, theirs = (_read_slice(one, bounds).astype(np.float32) for one in (embedding, head))
        is_same &= np.array_equal(ours, theirs, equal_nan=True)
    if not is_same:
        raise errors.UserError(
            f"checkpoint {folder} has {head.key}, which differs from {embedding.key}, and its config.json ties them: "
            "set tie_word_embeddings to false there where the head was trained apart, else remove it from the weights"
        )


def read_model_config(folder) -> registry.ModelConfig:
    """The sizes in a folder's config.json.

    Raises:
        UserError: no such file, an unknown model_type, a missing or an unsupported field.
    """
    path = pathlib.Path(folder) / weight_files.CONFIG_NAME
    config = weight_files.read_json(path)
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not registry.has_family(model_type):
        raise errors.UserError(
            f"{path} has model_type {family.shown(model_type)}: supported are {', '.join(registry.FAMILIES)}"
        )
    try:
        return registry.FAMILIES[model_type].parse_config(config)
    except ValueError as error:
        raise errors.UserError(f"{path}: {error}; use a checkpoint that this project supports") from None


def load_decoder(
    folder,
    *,
    param_dtype,
    compute_dtype,
    lm_head: bool,
    mesh: jax.sharding.Mesh | None = None,
    **options: str,
) -> decoder.Decoder:
    """A decoder with the weights of a checkpoint folder, each tensor read straight into its shards.

    Slices are read in the file's dtype and cast on the device, one parameter at a time, so the host never
    holds the whole model. The language-model head is not read where `lm_head` is False.

    Args:
        mesh: the device mesh; default the first local device.
        options: remat and attention; these and the other arguments as for `decoder.Decoder`.

    Raises:
        UserError: as `check_checkpoint`, or sizes that the mesh does not divide.
    """
    config, sources = _plan(remote.local_copy(folder), lm_head)
    mesh = sharding.single_device_mesh() if mesh is None else mesh
    sharding.check_divisible(mesh, config)
    dtypes = {"param_dtype": param_dtype, "compute_dtype": compute_dtype}
    model = decoder.abstract_decoder(config, lm_head=lm_head, mesh=mesh, **dtypes, **options)
    graphdef, state = nnx.split(model)
    params = decoder.flatten_params(state)
    shardings = decoder.flatten_params(sharding.param_shardings(mesh, state))
    loaded = []
    for path, param in params.items():
        preemption.check(f"loading {folder}")
        array = _load_param(sources[path], param, shardings[path].get_value())
        loaded.append((tuple(path.split(".")), param.replace(array)))
    return nnx.merge(graphdef, nnx.from_flat_state(loaded))


def _load_param(sources: list[_Source], variable, param_sharding) -> jax.Array:
    """One parameter, or all layers of one, as an array of the variable's shape and dtype."""
    file_dtypes = {jnp.dtype(READ_DTYPES[source.info.dtype]) for source in sources}
    dtype = file_dtypes.pop() if len(file_dtypes) == 1 else jnp.dtype("float32")
    is_layered = sources[0].tensor.layer is not None
    pieces: dict[tuple, np.ndarray] = {}  # devices that hold copies share one read

    def read(index):
        bounds = tuple(cut.indices(size)[:2] for cut, size in zip(index, variable.shape, strict=True))
        if bounds not in pieces:
            piece = np.empty([stop - start for start, stop in bounds], dtype)
            if is_layered:
                for offset, source in enumerate(sources[slice(*bounds[0])]):
                    piece[offset] = _read_slice(source, bounds[1:])
            else:
                piece[...] = _read_slice(sources[0], bounds)
            pieces[bounds] = piece
        return pieces[bounds]

    array = jax.make_array_from_callback(variable.shape, param_sharding, read, dtype=dtype)
    # Before the next is read, so that no two parameters have host memory at a time.
    return jax.block_until_ready(array.astype(variable.dtype))


def _read_slice(source: _Source, bounds) -> np.ndarray:
    """The part of one file tensor that `bounds`, (start, stop) on each axis of the parameter, select.

    An axis of the file that unfolds into several of the parameter is cut in the file where the part is
    contiguous there, and after reading where it is not (the heads of a fused q, k, v product).
    """
    import safetensors

    file_cuts, shape, cuts = [], [], []
    first = 0
    for num_axes in source.tensor.unfold:
        sizes = source.tensor.param_shape[first : first + num_axes]
        group = bounds[first : first + num_axes]
        first += num_axes
        if all(cut == (0, size) for cut, size in zip(group[1:], sizes[1:], strict=True)):
            (start, stop), inner = group[0], math.prod(sizes[1:])
            file_cuts.append(slice(start * inner, stop * inner))
            shape += [stop - start, *sizes[1:]]
            cuts += [slice(None)] * num_axes
        else:
            file_cuts.append(slice(None))
            shape += sizes
            cuts += [slice(*cut) for cut in group]
    # Opened anew for each tensor, so that the pages of a file already read do not stay mapped.
    with safetensors.safe_open(source.info.file, framework="numpy") as file:
        data = file.get_slice(source.key)[tuple(file_cuts)]
    return data.reshape(shape)[tuple(cuts)]
