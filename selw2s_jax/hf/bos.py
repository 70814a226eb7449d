"""The beginning-of-text token (BOS) that a model was pretrained to read in front of every text: which, and whether.

Llama and Mistral have one; GPT-2, Qwen and SmolLM2 have none in front. What a tokenizer's own files say holds, unless
the config says otherwise (`model.bos`).
"""

import json
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from selw2s_jax import errors
from selw2s_jax.hf import tokenizer_settings

if TYPE_CHECKING:
    import tokenizers

POLICIES = ("auto", "on", "off")


class Bos(NamedTuple):
    """What a tokenizer's files say of its BOS token.

    Attributes:
        token_id: None where it has none.
        is_put: whether it belongs in front of every text.
        said_by: the file, and the setting in it, that says so.
    """

    token_id: int | None = None
    is_put: bool = False
    said_by: str = ""

    def chosen(self, policy: str, path: pathlib.Path) -> int | None:
        """The token that is put in front of texts, None for none.

        Args:
            policy: "auto" (as the files say), "on" or "off".
            path: of the tokenizer, for errors.

        Raises:
            UserError: "on", and the tokenizer has no such token.
        """
        if policy not in POLICIES:
            raise errors.UserError(f"bos={policy!r} is not one of: {', '.join(POLICIES)}")
        if policy == "on" and self.token_id is None:
            raise errors.UserError(
                f"model.bos=on, and {path} has no beginning-of-text token: set model.bos=auto, or name its bos_token "
                "in tokenizer_config.json"
            )
        return self.token_id if policy == "on" or (policy == "auto" and self.is_put) else None


NONE = Bos()
_NO_TOKEN = 2**32 - 1  # an id that none has


def find(
    backend: "tokenizers.Tokenizer",
    settings: tokenizer_settings.Settings,
    path: pathlib.Path,
    *,
    token: str | None = None,
    is_put: bool = False,
) -> Bos:
    """What the files of a tokenizer of the tokenizers library say.

    `add_bos_token` of tokenizer_config.json decides, else the post-processor of tokenizer.json, else the kind of file.

    Args:
        path: of the tokenizer.
        token, is_put: the kind's BOS token, where no file names another, and whether its models want it in front.

    Raises:
        UserError: a BOS token is asked for that is not there; or more tokens around each text than one in front.
    """
    asked = settings.flag("add_bos_token")
    front, back = _around(backend, path)
    has_eos = settings.flag("add_eos_token")
    if has_eos or (has_eos is None and asked is None and back):
        source = f"{settings.path} (add_eos_token)" if has_eos else f"{path} (post_processor)"
        raise errors.UserError(
            f"{source} wants a token behind every text, which no prompt can have: set add_eos_token to false in "
            "tokenizer_config.json, or use the tokenizer of a language model"
        )
    if asked is None and front:
        if len(front) > 1:
            raise errors.UserError(
                f"{path} (post_processor) puts {len(front)} tokens in front of every text, and only one can be: set "
                "add_bos_token in tokenizer_config.json to true or false"
            )
        return Bos(front[0], True, f"post_processor of {path.name}")
    named = settings.token("bos_token") or token
    token_id = None if named is None else backend.token_to_id(named)
    if token_id is None and front:
        token_id = front[0]
    if asked and token_id is None:
        raise errors.UserError(
            f"{settings.path} has add_bos_token=true, and {path} has no such token"
            + (f" ({named})" if named else "")
            + ": name its bos_token there, or set add_bos_token to false"
        )
    if asked is not None:
        return Bos(token_id, asked, f"add_bos_token of {settings.path.name}")
    return Bos(token_id, is_put, f"{path.name}, by its kind")


def find_of_ranks(
    token: str | None,
    special_tokens: Mapping[str, int],
    settings: tokenizer_settings.Settings | None,
    path: pathlib.Path,
) -> Bos:
    """What the settings beside a rank file say, where they count.

    Args:
        token: that models of this kind read in front, None where they have none.

    Raises:
        UserError: as `find`.
    """
    asked = None
    if settings is not None:
        asked, token = settings.flag("add_bos_token"), settings.token("bos_token") or token
    token_id = None if token is None else special_tokens.get(token)
    if token_id is None and (asked or (token is not None and asked is None)):
        raise errors.UserError(
            f"{settings.path} names the bos_token {token}, which {path} does not have: correct it"
        )
    if asked is not None:
        return Bos(token_id, asked, f"add_bos_token of {settings.path.name}")
    return Bos(token_id, token_id is not None, f"{path.name}, by its kind")


def _around(backend: "tokenizers.Tokenizer", path: pathlib.Path) -> tuple[list[int], list[int]]:
    """The tokens that a post-processor puts in front of a single text, and behind it."""
    front: list[int] = []
    back: list[int] = []
    for part in tokenizer_settings.parts(backend.post_processor):
        state = json.loads(part.__getstate__())
        if state["type"] in ("BertProcessing", "RobertaProcessing"):
            front, back = [state["cls"][1]], [state["sep"][1]]
        elif state["type"] == "TemplateProcessing":
            front, back = _around_in_template(state)
    if any(backend.id_to_token(token_id) is None for token_id in (*front, *back)):
        raise errors.UserError(
            f"{path} (post_processor) puts tokens around texts that it lacks: download it again"
        )
    return front, back


def _around_in_template(state: dict[str, Any]) -> tuple[list[int], list[int]]:
    ids = {name: token["ids"] for name, token in state["special_tokens"].items()}
    sides: tuple[list[int], list[int]] = ([], [])
    is_behind = False
    for piece in state["single"]:
        if "Sequence" in piece:
            is_behind = True
        else:
            sides[is_behind].extend(ids.get(piece["SpecialToken"]["id"], [_NO_TOKEN]))
    return sides
