"""Selective weak-to-strong generalization (arXiv 2511.14166) in JAX and Flax NNX.

As a library: `run` a config, `load_run` what it left, ask its students (`Results.student`), or `load_model` and
`load_tokenizer` alone; docs/library.md has examples. Everything is imported when it is first used.
"""

TYPE_CHECKING = False  # to type checkers it is true; `typing` itself would be imported
if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Any, TypeVar

    import ml_collections

    from selw2s_jax import config, exports
    from selw2s_jax.errors import UserError
    from selw2s_jax.hf.tokenizers import Tokenizer
    from selw2s_jax.library.results import Results
    from selw2s_jax.library.student import Student
    from selw2s_jax.models.decoder import Decoder
    from selw2s_jax.runtime import remote
    from selw2s_jax.worlds import smoke

    F = TypeVar("F", bound=Callable[..., Any])

__version__ = "0.2.0"
__all__ = [
    "Results",
    "Student",
    "UserError",
    "config",
    "exports",
    "load_model",
    "load_run",
    "load_tokenizer",
    "remote",
    "run",
    "smoke",
]


def _as_room(function: "F") -> "F":
    """The folder of modules of that name, made callable: the name is both, whatever is imported first."""
    room: Any = __import__(f"{__name__}.{function.__name__}", fromlist=["*"])

    def __call__(self: "Any", config: "Any", workdir: "Any", *, shard: "Any" = (0, 1)) -> "Any":
        return function(config, workdir, shard=shard)

    def __reduce__(self: "Any") -> "Any":  # so that it can be given to other processes, as a function can
        return __import__, (self.__name__, None, None, ["*"])

    __call__.__annotations__, __call__.__doc__ = function.__annotations__, function.__doc__
    room.__class__ = type("CallableModule", (type(room),), {"__call__": __call__, "__reduce__": __reduce__})
    room.__doc__ = function.__doc__
    return room


@_as_room
def run(
    config: "ml_collections.ConfigDict",
    workdir: "str | os.PathLike[str]",
    *,
    shard: tuple[int, int] = (0, 1),
) -> "Results":
    """Runs a config in a workdir, as `python -m selw2s_jax.main` does; what is finished there is found again.

    It prints its plan and lines of progress. Of a script that was killed or interrupted the same call goes on from
    what is saved.

    Args:
        config: as `selw2s_jax.config.default_config()` gives it, changed as you like. It stays as it is.
        workdir: a folder, or a gs:// one.
        shard: (i, n) for the i-th of n equal parts of the work, where others run the other parts.

    Returns:
        What the workdir then holds.

    Raises:
        UserError: config, data, models or workdir are not fit, in one line with the remedy; nothing has been trained
            then. Or a fault of the environment, as a full disk.
    """
    from selw2s_jax.library import runs

    return runs.run(config, workdir, shard=shard)


def load_run(workdir: "str | os.PathLike[str]") -> "Results":
    """What a workdir holds, of a run or of a sweep, finished or not; nothing is run, and no model loaded.

    Raises:
        UserError: no run is there, or what is there is damaged.
    """
    from selw2s_jax.library import runs

    return runs.load_run(workdir)


def load_model(
    path: "str | os.PathLike[str]",
    *,
    param_dtype: str = "float32",
    compute_dtype: str = "float32",
    lm_head: bool = True,
) -> "Decoder":
    """A pretrained decoder with the weights of a Hugging Face folder or hub name.

    Args:
        path: a folder with `config.json` and safetensors files (tokenizer files are not needed), or the
            name of a shipped model or of a hub repository.
        param_dtype: dtype of the parameters held in memory, such as "float32" or "bfloat16".
        compute_dtype: dtype of the forward pass.
        lm_head: whether to load the language-model head.

    Returns:
        A `selw2s_jax.models.decoder.Decoder` with `.hidden_states(tokens, segment_ids=None,
        positions=None)` `[R, T, D]`, after the final norm, and `.lm_logits(hidden)` `[R, T, V]` in float32.

    Raises:
        UserError: the folder is missing, incomplete, damaged, of an unknown family, or not safetensors.
    """
    from selw2s_jax.hf import loader

    folder = loader.resolve(path)
    return loader.load_decoder(folder, param_dtype=param_dtype, compute_dtype=compute_dtype, lm_head=lm_head)


def load_tokenizer(path: "str | os.PathLike[str]", *, bos: str = "auto") -> "Tokenizer":
    """The tokenizer of a Hugging Face folder or hub name; `.encode(text) -> list[int]` gives what a model reads.

    Args:
        path: as for `load_model`.
        bos: whether a beginning-of-text token is put in front: "auto" (as the tokenizer's files say; Llama's and
            Mistral's do, those of GPT-2 and Qwen do not), "on" or "off". No other token is added.

    Raises:
        UserError: no tokenizer files that this project reads, or damaged ones; or none to put for "on".
    """
    from selw2s_jax.hf import loader, tokenizers

    return tokenizers.load_tokenizer(loader.resolve(path), bos=bos)


# What users' own scripts import from here: modules, or what is in one.
_SHORT_NAMES = {
    "config": ("selw2s_jax.config", ""),
    "exports": ("selw2s_jax.exports", ""),  # reads exported students
    # Models and questions to try things on, made on the spot and offline.
    "smoke": ("selw2s_jax.worlds.smoke", ""),
    "remote": ("selw2s_jax.runtime.remote", ""),  # local copies of what is on gs://
    "Results": ("selw2s_jax.library.results", "Results"),
    "Student": ("selw2s_jax.library.student", "Student"),
    "UserError": ("selw2s_jax.errors", "UserError"),
}


def __getattr__(name: str) -> "Any":
    if name not in _SHORT_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, inner = _SHORT_NAMES[name]
    found = importlib.import_module(module)
    return getattr(found, inner) if inner else found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
