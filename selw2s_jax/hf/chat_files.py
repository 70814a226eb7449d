"""Where the chat template of a model is: chat_template.jinja or tokenizer_config.json of its tokenizer's folder."""

import importlib.util
import pathlib
import re

from selw2s_jax.data import chat, model_names
from selw2s_jax.errors import UserError
from selw2s_jax.hf import tokenizer_settings, tokenizers, weight_files

CHOICES = ("auto", "on", "off")
_FILE, _OLD_FILE = "chat_template.jinja", "chat_template.json"
_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
_MOST_CHARACTERS = 1_000_000
# A part of a name, as in Qwen2.5-7B-Instruct, Llama-2-7b-chat-hf and gemma-2-9b-it.
_INSTRUCT = re.compile(r"(^|[-_.])(instruct|chat|it)([-_.]|$)", re.IGNORECASE)


def choose(policy: str, name: str, tokenizer: tokenizers.Tokenizer) -> chat.Template | None:
    """The template that a model is asked by, or None.

    Args:
        policy: "off"; "on"; or "auto": where there is one and the model's name says that it was tuned to instructions.
        name: of the model, or its folder.

    Raises:
        UserError: the policy is "on" and there is none; or the one that is used cannot be read, or jinja2 is missing.
    """
    if policy == "off" or (policy == "auto" and not is_instruct(name)):
        return None
    folder = tokenizer.files[0].parent
    settings = tokenizer_settings.read(folder)
    text = _find(folder, settings)
    if text is None:
        if policy == "on":
            raise UserError(
                f"config.fewshot.chat=on: {folder} has no chat template, neither as {_FILE} nor in "
                f"{tokenizer_settings.CONFIG}: give an instruction-tuned model, or set fewshot.chat=off"
            )
        return None
    if importlib.util.find_spec("jinja2") is None:
        raise UserError(f"config.fewshot.chat={policy} needs jinja2: pip install 'selw2s-jax[chat]'")
    tokens = {token: settings.token(token) for token in _TOKENS}
    if tokenizer.bos_id is not None:
        tokens["bos_token"] = ""  # it is in front of every text
    found = chat.Template(text, tuple((token, value) for token, value in tokens.items() if value is not None))
    found.render([("user", "a"), ("assistant", "0"), ("user", "b")])  # whether it can be is said now
    return found


def is_instruct(name: str) -> bool:
    """Whether the name of a model, of a folder its last part, says that it was tuned to instructions."""
    return _INSTRUCT.search(model_names.short(name)) is not None


def _find(folder: pathlib.Path, settings: tokenizer_settings.Settings) -> str | None:
    if (path := folder / _FILE).is_file():
        found, where = _text(path), path
    elif (path := folder / _OLD_FILE).is_file():
        found, where = weight_files.read_json(path).get("chat_template"), path
    else:
        found, where = settings.config.get("chat_template"), settings.path
    if isinstance(found, list):  # several by name
        named = [one for one in found if isinstance(one, dict) and one.get("name") == "default"]
        found = named[0].get("template") if named else None
    if found is None:
        return None
    if not isinstance(found, str) or len(found) > _MOST_CHARACTERS:
        raise UserError(f"{where}: chat_template is no template; correct it, or set fewshot.chat=off")
    return found


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text: download the checkpoint folder again, or set fewshot.chat=off"
        ) from error
