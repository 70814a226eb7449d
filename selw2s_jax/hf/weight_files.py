"""The safetensors files of a checkpoint folder: which there are, their headers, a hash of their content."""

import dataclasses
import hashlib
import pathlib
import re
import struct
from typing import Any

from etils import epath

from selw2s_jax import errors
from selw2s_jax.hf import model_folders
from selw2s_jax.runtime import distributed, storage

INDEX_NAME = "model.safetensors.index.json"
CONFIG_NAME = model_folders.CONFIG_NAME
# Formats that can hold code or that this project does not read, by what they are called.
_OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf")
_CONVERT_REMEDY = (
    "only safetensors are read; convert with transformers' save_pretrained(folder, safe_serialization=True)"
)


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Where one tensor of a checkpoint is, its dtype by safetensors' name, and its shape."""

    file: pathlib.Path
    dtype: str
    shape: tuple[int, ...]


def read_json(path: pathlib.Path) -> dict:
    """The object in a JSON file.

    Raises:
        UserError: missing, unreadable, or not a JSON object.
    """
    if not path.exists():
        raise model_folders.explain_missing(path)
    if not path.is_file():
        raise errors.UserError(f"{path} is no file: give a folder with the files of a model")
    try:
        content = errors.parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise errors.UserError(
            f"{path} is not readable JSON ({errors.one_line(error)}): download it again"
        ) from None
    if not isinstance(content, dict):
        raise errors.UserError(f"{path} holds no JSON object: download it again")
    return content


def read_header(path: pathlib.Path) -> dict[str, TensorInfo]:
    """The tensors that one safetensors file declares, as the library of the format reads them.

    Raises:
        UserError: not safetensors inside, truncated, or damaged in any other way that the library refuses.
    """
    if not path.is_file():
        raise errors.UserError(f"{path} is no file: download it again")
    try:
        _check_header(path)
        return _library_infos(path)
    except OSError as error:
        raise errors.UserError(f"{path} cannot be read ({error.strerror}): correct its permissions") from None


def _library_infos(path: pathlib.Path) -> dict[str, TensorInfo]:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            return {key: TensorInfo(path, s.get_dtype(), tuple(s.get_shape())) for key, s in slices.items()}
    except OSError:
        raise
    except Exception as error:  # SafetensorError, and what its Rust does not foresee
        raise _damaged_header(path, error) from None


def _check_header(path: pathlib.Path) -> None:
    """Says what the library does not: what a file is that is no safetensors, and by how much one is cut short."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        header_size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        header_text = file.read(header_size) if 2 <= header_size <= size - 8 else b""
    if not header_text.lstrip().startswith(b"{"):
        if start.startswith(b"version "):
            raise errors.UserError(f"{path} is a Git LFS pointer, not the weights: download the file itself")
        if start.startswith((b"PK\x03\x04", b"\x80\x02")):
            raise errors.UserError(f"{path} is a PyTorch file under a safetensors name: {_CONVERT_REMEDY}")
        raise errors.UserError(
            f"{path} is not a safetensors file or is cut short ({size} bytes): download it again"
        )
    try:
        header = errors.parse_json(header_text)
        header.pop("__metadata__", None)
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise _damaged_header(path, error) from None
    if size != 8 + header_size + end:
        raise errors.UserError(
            f"{path} has {size} bytes where its header promises {8 + header_size + end}: it is "
            f"{'truncated' if size < 8 + header_size + end else 'damaged'}, download it again"
        )


def _damaged_header(path: pathlib.Path, error: Exception) -> errors.UserError:
    return errors.UserError(
        f"{path} has a damaged safetensors header ({errors.one_line(error)}): download it again"
    )


def find_files(folder: pathlib.Path) -> tuple[list[pathlib.Path], dict[str, str] | None]:
    """The weight files of a checkpoint folder, and the index's key -> file name where there is an index.

    Raises:
        UserError: no weights, weights of another format only, several files without an index, or files
            that the index names and the folder lacks.
    """
    model_folders.refuse_adapter(folder)
    index_path = folder / INDEX_NAME
    if index_path.exists():
        weight_map = read_json(index_path).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise errors.UserError(f"{index_path} has no weight_map: download it again")
        if odd := [value for value in weight_map.values() if not _is_file_name(value)]:
            raise errors.UserError(
                f"{index_path} has {str(odd[0])[:50]!r} where a file of its folder should be named: download it again"
            )
        names = sorted(set(weight_map.values()))
        if unsafe := [name for name in names if pathlib.PurePath(name).name != name]:
            raise errors.UserError(f"{index_path} names files outside its folder: {unsafe[0]}")
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise errors.UserError(
                f"{folder} lacks {capped(missing)}, named in {INDEX_NAME}: download the missing files"
            )
        return [folder / name for name in names], weight_map
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        others = sorted(path.name for pattern in _OTHER_FORMATS for path in folder.glob(pattern))
        if others:
            raise errors.UserError(f"{folder} has {capped(others)} and no safetensors: {_CONVERT_REMEDY}")
        raise errors.UserError(f"{folder} has no *.safetensors file: download the checkpoint's weights")
    if len(files) > 1:
        raise errors.UserError(
            f"{folder} has {len(files)} safetensors files and no {INDEX_NAME}: download the index, or leave "
            "one file"
        )
    return files, None


_LONGEST_NAME = 255  # bytes, of a file on any system


def _is_file_name(value: Any) -> bool:
    """Whether a value can name a file at all."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value.encode()) <= _LONGEST_NAME


def read_tensor_infos(folder: pathlib.Path) -> dict[str, TensorInfo]:
    """Every tensor of the folder's weight files by key, from their headers alone.

    Raises:
        UserError: as `find_files` and `read_header`, or files that disagree with the index.
    """
    files, weight_map = find_files(folder)
    infos: dict[str, TensorInfo] = {}
    for path in files:
        header = read_header(path)
        if twice := infos.keys() & header.keys():
            raise errors.UserError(f"{folder} holds {capped(sorted(twice))} in two files: remove one of them")
        infos |= header
    if any(key.startswith("base_model.model.") or ".lora_A." in key for key in infos):
        raise model_folders.adapter_error(folder)
    if weight_map is not None:
        misplaced = sorted(
            key for key, name in weight_map.items() if key not in infos or infos[key].file.name != name
        ) + sorted(infos.keys() - weight_map.keys())
        if misplaced:
            raise errors.UserError(
                f"{folder}/{INDEX_NAME} and the files disagree on {capped(misplaced)}: download both again"
            )
    return infos


# What torch puts between or before the names of a model's parts when it is compiled, sharded or in parallel.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")


def plain_key(key: str) -> str:
    """The key of a tensor in a model that was saved without the wrappers of torch around it."""
    parts = [part for part in key.split(".") if part not in _WRAPPERS]
    while len(parts) > 1 and parts[0] == "module":  # of DataParallel
        parts = parts[1:]
    return ".".join(parts)


def capped(names: list[str], limit: int = 5) -> str:
    """A list of names for an error line, cut after `limit`."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def fingerprint(folder: pathlib.Path, cache_dir: pathlib.Path | None = None) -> str:
    """A hash of the content of config.json and all weight files, independent of where they are.

    A file in the Hugging Face cache that is named after its own sha256 is not read again.

    Args:
        cache_dir: a folder for hashes of files already read, kept by real path, size and modification time.

    Raises:
        UserError: as `find_files`.
    """
    folder = pathlib.Path(folder)
    files, _ = find_files(folder)
    digest = hashlib.sha256()
    for path in [folder / CONFIG_NAME, *files]:
        digest.update(f"{path.name}:{_file_hash(path, cache_dir)}\n".encode())
    return digest.hexdigest()


def _file_hash(path: pathlib.Path, cache_dir) -> str:
    real_path = path.resolve()
    if real_path.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real_path.name):
        return real_path.name
    try:
        stat = real_path.stat()
    except OSError:
        raise errors.UserError(f"{path} is missing: download the checkpoint folder again") from None
    cached = None
    if cache_dir is not None:
        identity = f"{real_path}\n{stat.st_size}\n{stat.st_mtime_ns}"
        cached = epath.Path(cache_dir) / hashlib.sha256(identity.encode()).hexdigest()
        content = (storage.read_bytes(cached) or b"").decode(errors="replace")
        if re.fullmatch(r"[0-9a-f]{64}", content):
            return content
    with real_path.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").hexdigest()
    if cached is not None and distributed.is_main():
        storage.make_folder(cached.parent)
        storage.write_bytes(cached, value.encode())
    return value
