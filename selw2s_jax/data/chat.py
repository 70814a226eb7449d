"""The chat template of a tokenizer: turns of a dialogue as the text that an instruction-tuned model was trained on.

A template is a program of its model's publisher. It runs in jinja2's sandbox, which lets it read what it is given and
nothing else: no attribute of Python's own, no file, no import. It is given no clock, so that a prompt is the same
whenever it is made. What the sandbox does not limit is time and memory: a template that loops long takes long.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

from selw2s_jax import errors
from selw2s_jax.errors import UserError

Turn = tuple[str, str]  # role ("user" or "assistant") and content
_PROBE = (("user", "Is it?"), ("assistant", "1"))
_REMEDY = "set fewshot.chat=off, or give a model whose template takes turns of user and assistant"


@dataclasses.dataclass(frozen=True)
class Template:
    """A template with the special tokens that it names.

    Attributes:
        text: in jinja.
        tokens: name (such as `eos_token`) and text of each; of `bos_token` "" where the tokenizer puts it itself.
    """

    text: str
    tokens: tuple[tuple[str, str], ...]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Template":
        return cls(fields["text"], tuple((name, text) for name, text in fields["tokens"]))

    def render(self, turns: Sequence[Turn], *, to_be_answered: bool = True) -> str:
        """The text of a dialogue, up to where the next answer begins.

        Args:
            to_be_answered: whether the template's beginning of an answer ends it.

        Raises:
            UserError: the template cannot be rendered.
        """
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            return _compile(self.text).render(
                messages=messages,
                add_generation_prompt=to_be_answered,
                tools=None,
                documents=None,
                **dict(self.tokens),
            )
        except UserError:
            raise
        except Exception as error:  # a program of someone else's can fail in any way
            reason = errors.one_line(error, with_type=True)
            raise UserError(
                f"the strong model's chat template cannot be rendered ({reason}): {_REMEDY}"
            ) from error

    @functools.cached_property
    def lead(self) -> str:
        """The white space between the beginning of an answer and its text, as the template writes it."""
        begun, whole = self.render(_PROBE[:1]), self.render(_PROBE, to_be_answered=False)
        before, found, _ = whole.removeprefix(begun).partition(_PROBE[1][1])
        is_space = whole.startswith(begun) and found and not before.strip()
        return before if is_space else ""


@functools.lru_cache(maxsize=8)
def _compile(text: str) -> Any:
    """A jinja2 template as transformers compiles it, but for the clock."""
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks what a model writes, for training: the text within is as it is."""

        tags: ClassVar = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    try:
        return environment.from_string(text)
    except jinja2.TemplateError as error:
        raise UserError(f"the strong model's chat template is none ({error}): {_REMEDY}") from error


def _to_json(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """Unlike jinja2's own it escapes nothing for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)
