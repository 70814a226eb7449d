"""The front matter of a model card: what the hub reads of it."""

import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selw2s_jax.models import catalogue

_TAGS = ["weak-to-strong-generalization", "selw2s_jax"]

# Licences of the models of the catalogue as their pages on the hub name them, by what their names begin with; the first
# that fits counts. What is not here is not claimed.
_LICENSES = {
    **dict.fromkeys(("Qwen/Qwen2.5-3B", "Qwen/Qwen2.5-72B"), None),  # of their own, unlike the others
    "openai-community/gpt2": "mit",
    "Qwen/Qwen2.5-": "apache-2.0",
    "Qwen/Qwen3-": "apache-2.0",
    "meta-llama/Llama-2-": "llama2",
    "meta-llama/Meta-Llama-3-": "llama3",
    "meta-llama/Llama-3.2-": "llama3.2",
    "HuggingFaceTB/SmolLM2-": "apache-2.0",
    "mistralai/Mistral-7B-": "apache-2.0",
    "EleutherAI/pythia-": "apache-2.0",
    "allenai/OLMo-2-": "apache-2.0",
}


class Result(NamedTuple):
    """A number of the model on a test split.

    Attributes:
        metric, name: as the hub names it, and for people.
        task: whose questions.
    """

    metric: str
    name: str
    value: float
    task: str


def license_of(hub_name: str | None) -> str | None:
    """The licence of a pretrained model of the catalogue, None where it is not known."""
    if hub_name not in {entry.hub_name for entry in catalogue.MODELS.values()}:
        return None
    return next((value for start, value in _LICENSES.items() if hub_name.startswith(start)), None)


def front_matter(
    *,
    name: str,
    base_model: str | None,
    library: str,
    pipeline: str,
    datasets: Mapping[str, str] = types.MappingProxyType({}),
    results: Sequence[Result] = (),
) -> str:
    """The fields as YAML between two lines of dashes, made and checked by the hub's own library.

    Args:
        name: of the model, for its results.
        base_model: of the hub.
        datasets: by task, those of the hub that it was trained or tested on.
    """
    import huggingface_hub

    data = huggingface_hub.ModelCardData(
        model_name=_in_one_line(name) if results else None,
        base_model=base_model,
        license=license_of(base_model),
        library_name=library,
        pipeline_tag=pipeline,
        tags=list(_TAGS),
        datasets=list(dict.fromkeys(datasets.values())) or None,
        eval_results=[_result(one, pipeline, datasets) for one in results] or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _result(result: Result, pipeline: str, datasets: Mapping[str, str]) -> Any:
    import huggingface_hub

    name = _in_one_line(result.task)
    return huggingface_hub.EvalResult(
        task_type=pipeline,
        dataset_type=datasets.get(result.task, name),
        dataset_name=name,
        dataset_split="test",
        metric_type=result.metric,
        metric_name=result.name,
        metric_value=result.value,
    )


def _in_one_line(text: str) -> str:
    return " ".join(text.split()) or "-"
