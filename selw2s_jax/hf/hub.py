"""Models of the Hugging Face hub: downloaded, or found in the cache of its library."""

import pathlib
from collections.abc import Callable
from typing import Any

from selw2s_jax import errors
from selw2s_jax.hf import weight_files

_FILES = ["*.json", "*.safetensors", "*.tiktoken", "*.model", "merges.txt"]
# Folders of other formats; Mistral's own layout of the same weights.
_OTHER_FILES = ["*/*", "consolidated*.safetensors"]


def download(repo_id: str, revision: str | None, *, check: Callable[[pathlib.Path], Any]) -> pathlib.Path:
    """The local folder of a model on the hub; HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are honoured.

    Args:
        revision: branch, tag or commit; None for the newest.
        check: is called with a folder that has config.json before anything else is downloaded.

    Raises:
        UserError: as `check` does, or one line that says why it is neither cached nor to be had, with the remedy.
    """
    import huggingface_hub

    try:
        config = huggingface_hub.hf_hub_download(repo_id, weight_files.CONFIG_NAME, revision=revision)
        check(pathlib.Path(config).parent)
        wanted = {"revision": revision, "allow_patterns": _FILES, "ignore_patterns": _OTHER_FILES}
        _announce(repo_id, wanted)
        folder = huggingface_hub.snapshot_download(repo_id, **wanted)
    except errors.UserError:
        raise
    except Exception as error:
        if fault := errors.disk_fault(error):
            raise errors.UserError(
                f"cannot keep {repo_id} ({fault}); or set HF_HOME to another folder"
            ) from error
        reason = _reason(error)
        at = f" at revision {revision}" if revision else ""
        raise errors.UserError(
            f"cannot get {repo_id}{at} from the Hugging Face hub ({type(reason).__name__}): "
            f"{_remedy(reason, repo_id, revision)}"
        ) from error
    return pathlib.Path(folder)


def _announce(repo_id: str, wanted: dict[str, Any]) -> None:
    """Says what is about to be downloaded and how large it is, where anything is."""
    import huggingface_hub

    try:
        files = huggingface_hub.snapshot_download(repo_id, **wanted, dry_run=True)
    except Exception:  # no network: what is in the cache will do, or the download itself says what is wrong
        return
    missing = [file.file_size or 0 for file in files if file.will_download]
    if missing:
        print(
            f"  downloading {repo_id} from the Hugging Face hub: {len(missing)} files, {sum(missing) / 1e9:.2f} GB",
            flush=True,
        )


def _reason(error: Exception) -> Exception:
    """What the hub answered where the library only says that the file is not in its cache."""
    from huggingface_hub import errors as hub_errors

    has_answer = isinstance(error, hub_errors.LocalEntryNotFoundError)
    return error.__cause__ if has_answer and isinstance(error.__cause__, Exception) else error


def _remedy(error: Exception, repo_id: str, revision: str | None) -> str:
    from huggingface_hub import errors as hub_errors

    page = f"https://huggingface.co/{repo_id}"
    token = "run `hf auth login`, or set HF_TOKEN"
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case hub_errors.DisabledRepoError():
            return f"its authors took it away; see {page}"
        case hub_errors.GatedRepoError():
            return f"accept its licence at {page}, then give a token of the account that did: {token}"
        case hub_errors.RepositoryNotFoundError():
            return f"correct the name, or, if {page} is private, give a token of an account that may read it: {token}"
        case hub_errors.RevisionNotFoundError():
            return f"correct the revision; those that there are: {page}/commits/main"
        case hub_errors.RemoteEntryNotFoundError():
            return f"it has no {weight_files.CONFIG_NAME}; use a model in the layout of transformers"
    if status in (401, 403):
        return f"see whether {page} has a licence to accept, and give a token that may read gated models: {token}"
    # Network, offline, time-outs.
    command = f"hf download {repo_id}" + (f" --revision {revision}" if revision else "")
    return (
        f"on a machine with network run `{command}`, copy its cache to $HF_HOME here, or pass the downloaded folder as "
        "weak.model / strong.model"
    )
