"""Published weights read by this project and by torch transformers: the same logits, the same text.

    python benchmarks/real_models.py --data=DATA --output=benchmarks/results/real_models.json MODEL [MODEL ...]

MODEL is a Hugging Face folder, DATA a folder laid out as `data.source` takes it, with SciQ, BoolQ and ARC. Each reader
has a process of its own. Both read the same few-shot prompts in float32: of 25 questions each of SciQ's and BoolQ's
tests the logits behind the last token and the mean loss of the prompt's own tokens are compared, and of the first 10
of SciQ 32 tokens that are generated greedily. Ours also answers 500 questions of SciQ's test few-shot, as a run does.
Needs torch.
"""

import argparse
import multiprocessing
import pathlib
import platform
import re
import time

import numpy as np
import outputs

NUM_PROMPTS, NUM_GENERATED, NEW_TOKENS = 25, 10, 32


def memory_gb(field: str) -> float:
    """VmRSS or VmHWM of this process."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024 / 1e9


def find_prompts(folder: str, data: str, task: str, num_questions: int):
    """Few-shot prompts of the first questions of a task's test split, as a run makes them."""
    import tempfile

    from etils import epath

    from selw2s_jax import config as config_lib
    from selw2s_jax.experiments import inputs
    from selw2s_jax.inference import answering

    config = config_lib.default_config()
    config.strong.model = config.weak.model = folder
    config.data.source, config.task, config.seeds = data, task, (0,)
    with tempfile.TemporaryDirectory() as workdir:
        found = inputs.prepare(config, epath.Path(workdir))
    split, model = found.test, found.strong
    questions = split.examples[:num_questions]
    limit = model.config.max_seq_len - NEW_TOKENS
    prompts = answering.make_prompts(model.tokenizer, split.few_shot, questions, max_length=limit)
    return model, prompts, split.labels[:num_questions]


def load_ours(folder: str, dtype: str = "float32"):
    """The model, seconds, and the peak of memory above what was held before."""
    import jax
    from flax import nnx

    from selw2s_jax import sharding
    from selw2s_jax.hf import pretrained

    before, start = memory_gb("VmRSS"), time.perf_counter()
    model = pretrained.load_language_model(
        pathlib.Path(folder), dtype=dtype, mesh=sharding.single_device_mesh()
    )
    jax.block_until_ready(nnx.state(model, nnx.Param))
    return (
        model,
        {"seconds": time.perf_counter() - start, "peak_gb": memory_gb("VmHWM") - before},
    )


def run_ours(folder: str, prompts: dict[str, list[np.ndarray]]) -> dict:
    """Logits, losses and text of this project."""
    import jax.numpy as jnp

    from selw2s_jax.hf import tokenizers
    from selw2s_jax.inference import generate

    model, loading = load_ours(folder)
    found: dict = {"loading": loading}
    for task, of_task in prompts.items():
        rows = []
        for tokens in of_task:
            num_tokens = len(tokens)
            # To few lengths, each of which is compiled; what stands behind a token does not change it.
            padded = jnp.asarray(np.pad(tokens, (0, -num_tokens % 256)))[None]
            hidden = model.hidden_states(padded)
            losses = model.next_token_losses(hidden, jnp.roll(padded, -1, axis=1))[0, : num_tokens - 1]
            rows.append((np.asarray(model.lm_logits(hidden[0, num_tokens - 1])), float(losses.mean())))
        found[task] = rows
    settings = generate.Settings(max_new_tokens=NEW_TOKENS, temperature=0.0)
    chosen = prompts["sciq"][:NUM_GENERATED]
    written = generate.generate(
        model,
        tokenizers.load_tokenizer(folder),
        chosen,
        [str(number) for number in range(len(chosen))],
        settings,
        batch_tokens=16_384,
        label="text",
    )
    found["text"] = [one.tokens.tolist() for (one,) in written]
    return found


def run_torch(folder: str, prompts: dict[str, list[np.ndarray]]) -> dict:
    """The same of transformers."""
    import torch
    import transformers

    before, start = memory_gb("VmRSS"), time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    loading = {"seconds": time.perf_counter() - start, "peak_gb": memory_gb("VmHWM") - before}
    found: dict = {"loading": loading}
    with torch.no_grad():
        for task, of_task in prompts.items():
            rows = []
            for tokens in of_task:
                ids = torch.from_numpy(tokens).long()[None]
                output = model(ids, labels=ids)
                rows.append((output.logits[0, -1].numpy().copy(), float(output.loss)))
            found[task] = rows
        found["text"] = [
            model.generate(
                torch.from_numpy(tokens).long()[None],
                attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=0,
            )[0, len(tokens) :].tolist()
            for tokens in prompts["sciq"][:NUM_GENERATED]
        ]
    return found


def answer(folder: str, data: str, num_questions: int, dtype: str) -> dict:
    """Few-shot accuracy on questions of SciQ, as a run judges them."""
    from selw2s_jax.inference import answering, fewshot

    _, prompts, labels = find_prompts(folder, data, "sciq", num_questions)
    model, loading = load_ours(folder, dtype)
    start = time.perf_counter()
    log_odds = answering.judge(model, prompts, batch_tokens=4096, label="questions")
    right = (fewshot.to_probs(log_odds) > 0.5) == labels
    return {
        "dtype": dtype,
        "loading": loading,
        "questions": len(labels),
        "right": int(right.sum()),
        "accuracy": float(right.mean()),
        "majority": float(max(labels.mean(), 1 - labels.mean())),
        "seconds": time.perf_counter() - start,
    }


def in_its_own_process(function, *arguments):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def read_prompts(folder: str, data: str) -> dict[str, list[np.ndarray]]:
    return {task: find_prompts(folder, data, task, NUM_PROMPTS)[1].tokens for task in ("sciq", "boolq")}


def compare(ours: dict, theirs: dict) -> dict:
    """Errors of logits relative to their largest magnitude, of losses, and what is the same."""
    report = {}
    for task in ("sciq", "boolq"):
        pairs = list(zip(ours[task], theirs[task], strict=True))
        report[task] = {
            "prompts": len(pairs),
            "logits_error": max(float(np.abs(a - b).max() / np.abs(b).max()) for (a, _), (b, _) in pairs),
            "loss_error": max(abs(a - b) for (_, a), (_, b) in pairs),
            "same_greedy_token": sum(int(a.argmax() == b.argmax()) for (a, _), (b, _) in pairs),
        }
    texts = list(zip(ours["text"], theirs["text"], strict=True))
    report["generated"] = {
        "prompts": len(texts),
        "tokens": NEW_TOKENS,
        "equal": sum(a == b for a, b in texts),
    }
    return report


def rounded(value):
    """Numbers to three digits, in whatever holds them."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", required=True)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--dtype", default="float32", help="of the few-shot answers")
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    report = {
        "machine": outputs.MACHINE,
        "python": platform.python_version(),
        "command": f"python benchmarks/real_models.py --data=DATA --dtype={arguments.dtype} MODEL ...",
        "models": {},
    }
    for folder in arguments.models:
        prompts = in_its_own_process(read_prompts, folder, arguments.data)
        ours = in_its_own_process(run_ours, folder, prompts)
        theirs = in_its_own_process(run_torch, folder, prompts)
        loading = {"ours": ours["loading"], "torch": theirs["loading"]}
        of_model = report["models"][pathlib.Path(folder).name] = rounded(
            {**compare(ours, theirs), "loading": loading}
        )
        outputs.write(report, arguments.output)  # what follows takes as long again
        answered = in_its_own_process(answer, folder, arguments.data, arguments.questions, arguments.dtype)
        of_model["few_shot"] = rounded(answered)
        outputs.write(report, arguments.output)


if __name__ == "__main__":
    main()
