"""A folder as a repository of models on the Hugging Face hub."""

import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, TypeVar

from selw2s_jax.errors import UserError

_Result = TypeVar("_Result")
_TOKEN = "run `hf auth login`, or set HF_TOKEN, with a token that may write"


def check_name(repo_id: str) -> None:
    """UserError where it is no owner/name."""
    import huggingface_hub.utils

    try:
        huggingface_hub.utils.validate_repo_id(repo_id)
        is_valid = repo_id.count("/") == 1
    except huggingface_hub.utils.HFValidationError:
        is_valid = False
    if not is_valid:
        raise UserError(
            f"--push_to_hub={repo_id} is no owner/name: letters, digits and -_. in both, as in me/my-student"
        )


def create(repo_id: str, *, private: bool) -> None:
    """Makes the repository, unless it is there; what there is keeps who may see it.

    Raises:
        UserError: HF_HUB_OFFLINE is set, there is no token, it may not write there, or the hub is not to be reached.
    """

    def make(api: Any) -> None:
        api.create_repo(repo_id, repo_type="model", private=private, exist_ok=True)

    _ask(repo_id, make, "")


def send(folder: pathlib.Path, repo_id: str, *, message: str) -> str:
    """Uploads all files of a folder as one commit; returns where it is to be seen.

    Raises:
        UserError: as `create`, with the command that sends the folder, which is kept, again.
    """

    def upload(api: Any) -> str:
        api.upload_folder(
            repo_id=repo_id, folder_path=os.fspath(folder), repo_type="model", commit_message=message
        )
        return f"{api.endpoint}/{repo_id}"

    kept = f"; {folder} is whole: `hf upload {repo_id} {folder}` sends it"
    return _ask(repo_id, upload, kept)


def _ask(repo_id: str, function: Callable[[Any], _Result], kept: str) -> _Result:
    """`function(api)`, errors of the hub and of the network in one line, which ends in `kept`."""
    import huggingface_hub

    try:
        return function(huggingface_hub.HfApi())
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
        raise UserError(
            f"cannot push to {repo_id} on the Hugging Face hub ({reason}): {_remedy(status, repo_id)}{kept}"
        ) from error


def _remedy(status: int | None, repo_id: str) -> str:
    import huggingface_hub
    import huggingface_hub.constants

    if huggingface_hub.constants.is_offline_mode():
        return "unset HF_HUB_OFFLINE, or leave out --push_to_hub"
    if status == 401 or huggingface_hub.get_token() is None:
        return _TOKEN
    if status == 403:
        return f"the account of the token may not write to {repo_id.partition('/')[0]}: name another owner, or {_TOKEN}"
    return "see whether the hub is to be reached and has room for it"
