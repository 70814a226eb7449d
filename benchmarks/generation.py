"""Tokens per second of generation and questions per second of few-shot scoring, beside transformers and llama.cpp.

    python benchmarks/generation.py MODEL --data=DATA --output=benchmarks/results/generation.json

MODEL is a Hugging Face folder, DATA a folder laid out as `data.source` takes it, with MMLU and SciQ. Written are so
many tokens, greedily, of questions of MMLU and of permutations of each; scored are few-shot prompts of SciQ's test, by
the logits of `0` and `1`. All take the same prompts in turn, in one process for each dtype, after a first call of each
that compiles; the best of the rounds counts, with `--rounds=0` that first call.

transformers is used as its manual says: prompts sorted by length, padded on the left, `--rows` of them in a batch;
scoring asks for the logits of the last token alone. It reads what prompts share anew in each of them, as its users do.
llama.cpp takes `--rows` sequences at once, of the same weights as a GGUF file (`--gguf`, by its own
`convert_hf_to_gguf.py`), where `llama-cpp-python` is installed. Needs torch.
"""

import argparse
import itertools
import multiprocessing
import pathlib
import time

import numpy as np
import outputs
import real_models


def written_prompts(folder: str, data: str, num_questions: int) -> list[np.ndarray]:
    """Prompts of questions of MMLU's test, of each the original one and five permutations."""
    from selw2s_jax.data import doubts, variation_plans, written_rows, written_splits, written_tasks
    from selw2s_jax.hf import tokenizers

    task, by_split = written_rows.load(written_tasks.get("mmlu"), source=data, found=doubts.Found())
    questions = max(by_split.values(), key=len)[:num_questions]
    split = written_splits.WrittenSplit(task, questions)
    plan = variation_plans.KINDS["permutation"](split, variation_plans.Plan())
    texts = [
        task.prompt(question, one)
        for question, own in zip(questions, plan, strict=True)
        for one in (None, *own)
    ]
    encoded = tokenizers.load_tokenizer(folder).encode_batch(texts)
    return [np.array(ids, np.int32) for ids in encoded]


class Ours:
    def __init__(self, folder: str, dtype: str, arguments):
        from selw2s_jax.hf import tokenizers

        self._model = real_models.load_ours(folder, dtype)[0]
        self._tokenizer, self._arguments = tokenizers.load_tokenizer(folder), arguments
        self.work: dict = {}

    def write(self, prompts) -> list[list[int]]:
        from selw2s_jax.inference import generate

        rows, new_tokens = self._arguments.rows, self._arguments.new_tokens
        slots = -(-(max(map(len, prompts)) + new_tokens) // 64) * 64
        work = generate.Work()
        found = generate.generate(
            self._model,
            self._tokenizer,
            prompts,
            [str(number) for number in range(len(prompts))],
            generate.Settings(max_new_tokens=new_tokens, temperature=0.0),
            batch_tokens=rows * slots,
            label="written",
            work=work,
        )
        self.work = {**vars(work), "prompts": sum(map(len, prompts))}
        return [one.tokens.tolist() for (one,) in found]

    def score(self, prompts) -> list[float]:
        from selw2s_jax.inference import answering

        found = answering.judge(
            self._model, prompts, batch_tokens=self._arguments.batch_tokens, label="scored"
        )
        return found.tolist()


class Transformers:
    def __init__(self, folder: str, dtype: str, arguments):
        import torch
        import transformers

        self._torch, self._arguments = torch, arguments
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))

    def _in_batches(self, prompts, run) -> list:
        """`run(ids, attention)` of left-padded batches of prompts of about the same length, back in their order."""
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        found = [None] * len(prompts)
        for start in range(0, len(order), self._arguments.rows):
            chosen = order[start : start + self._arguments.rows]
            longest = len(prompts[chosen[0]])
            ids, attention = np.zeros((2, len(chosen), longest), np.int64)
            for row, i in enumerate(chosen):
                ids[row, longest - len(prompts[i]) :], attention[row, longest - len(prompts[i]) :] = (
                    prompts[i],
                    1,
                )
            with self._torch.no_grad():
                own = run(self._torch.from_numpy(ids), self._torch.from_numpy(attention))
            for i, value in zip(chosen, own, strict=True):
                found[i] = value
        return found

    def write(self, prompts) -> list[list[int]]:
        new_tokens = self._arguments.new_tokens

        def run(ids, attention):
            found = self._model.generate(
                ids,
                attention_mask=attention,
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                eos_token_id=None,
                do_sample=False,
                pad_token_id=0,
            )
            return found[:, ids.shape[1] :].tolist()

        return self._in_batches(prompts, run)

    def score(self, prompts) -> list[float]:
        zero, one = prompts.answer_ids

        def run(ids, attention):
            positions = (attention.cumsum(1) - 1).clamp(min=0)
            options = {"attention_mask": attention, "position_ids": positions, "use_cache": False}
            logits = self._model(ids, logits_to_keep=1, **options).logits[:, -1].float()
            return (logits[:, one] - logits[:, zero]).tolist()

        return self._in_batches(prompts.tokens, run)


class LlamaCpp:
    """llama.cpp with as many sequences at once, each step one batch."""

    def __init__(self, folder: str, dtype: str, arguments):
        import llama_cpp

        del folder, dtype
        self._lib, self._arguments = llama_cpp, arguments
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            str(arguments.gguf).encode(), llama_cpp.llama_model_default_params()
        )
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def write(self, prompts) -> list[list[int]]:
        lib, rows, new_tokens = self._lib, self._arguments.rows, self._arguments.new_tokens
        longest = max(map(len, prompts)) + new_tokens
        options = lib.llama_context_default_params()
        options.n_ctx, options.n_seq_max = rows * (-(-longest // 256) * 256), rows
        options.n_batch = options.n_ubatch = 2048
        options.n_threads = options.n_threads_batch = multiprocessing.cpu_count()
        context = lib.llama_init_from_model(self._model, options)
        batch = lib.llama_batch_init(options.n_batch, 0, 1)
        found = []
        for start in range(0, len(prompts), rows):
            chosen = prompts[start : start + rows]
            lib.llama_memory_clear(lib.llama_get_memory(context), True)
            last = self._read(context, batch, options.n_batch, chosen)
            written = [[token] for token in last]
            for step in range(new_tokens - 1):
                fed = [
                    (own[-1], len(ids) + step, row, True)
                    for row, (own, ids) in enumerate(zip(written, chosen, strict=True))
                ]
                for own, token in zip(written, self._decode(context, batch, fed), strict=True):
                    own.append(token)
            found += written
        lib.llama_batch_free(batch)
        lib.llama_free(context)
        return found

    def _read(self, context, batch, most: int, prompts) -> list[int]:
        """Reads prompts, and gives the first token of each."""
        fed = [
            (int(token), place, row, place == len(ids) - 1)
            for row, ids in enumerate(prompts)
            for place, token in enumerate(ids)
        ]
        return list(
            itertools.chain.from_iterable(
                self._decode(context, batch, fed[i : i + most]) for i in range(0, len(fed), most)
            )
        )

    def _decode(self, context, batch, fed) -> list[int]:
        """The likeliest tokens behind those that ask for them; `fed` are (token, position, sequence, asks)."""
        batch.n_tokens = len(fed)
        for i, (token, position, sequence, asks) in enumerate(fed):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, asks
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if self._lib.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        asked = [i for i, one in enumerate(fed) if one[3]]
        return [
            int(
                np.ctypeslib.as_array(
                    self._lib.llama_get_logits_ith(context, i), (self._vocab_size,)
                ).argmax()
            )
            for i in asked
        ]


def side_by_side(folder: str, dtype: str, arguments, prompts, kind: str) -> dict:
    """Seconds of the best round of each reader, and what they say."""
    readers = {"ours": Ours, "transformers": Transformers}
    if kind == "write" and arguments.gguf is not None:
        readers["llama.cpp"] = LlamaCpp
    made = {name: reader(folder, dtype, arguments) for name, reader in readers.items()}
    seconds, found = {name: [] for name in made}, {}
    for _ in range(1 + arguments.rounds):
        for name, reader in made.items():
            start = time.perf_counter()
            found[name] = getattr(reader, kind)(prompts)
            seconds[name].append(time.perf_counter() - start)
    best = {name: min(of_one[1:] or of_one) for name, of_one in seconds.items()}
    count = arguments.new_tokens * len(prompts) if kind == "write" else len(prompts.tokens)
    report = {
        "per_second": {name: count / value for name, value in best.items()},
        "times_as_fast": {name: value / best["ours"] for name, value in best.items() if name != "ours"},
        "first_call_s": {name: of_one[0] for name, of_one in seconds.items()},
    }
    for name in made:
        if name != "ours" and kind == "write":
            same = sum(a == b for a, b in zip(found["ours"], found[name], strict=True))
            report[f"equal_to_{name}"] = f"{same} of {len(prompts)}"
        elif name != "ours":
            ours, theirs = np.array(found["ours"]), np.array(found[name])
            report["largest_difference"] = float(np.abs(ours - theirs).max())
            report["same_answers"] = f"{int(((ours > 0) == (theirs > 0)).sum())} of {len(ours)}"
    if kind == "write":
        report["work"] = made["ours"].work
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--data", required=True)
    parser.add_argument("--kinds", default="write,score")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--questions", type=int, default=20, help="of MMLU, six prompts of each")
    parser.add_argument("--new_tokens", type=int, default=32)
    parser.add_argument("--scored", type=int, default=500, help="questions of SciQ")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--batch_tokens", type=int, default=4096, help="of our batches in scoring")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--gguf", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    given = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("model", "data", "output", "gguf") and value != parser.get_default(name)
    }
    report = {
        "machine": outputs.MACHINE,
        "command": " ".join(
            ["python benchmarks/generation.py MODEL --data=DATA", *(f"--{k}={v}" for k, v in given.items())]
        ),
        "model": pathlib.Path(arguments.model).name,
    }
    run = real_models.in_its_own_process
    for kind in arguments.kinds.split(","):
        if kind == "write":
            prompts = run(written_prompts, arguments.model, arguments.data, arguments.questions)
        else:
            prompts = run(
                real_models.find_prompts, arguments.model, arguments.data, "sciq", arguments.scored
            )[1]
        for dtype in arguments.dtypes.split(","):
            found = run(side_by_side, arguments.model, dtype, arguments, prompts, kind)
            report.setdefault(kind, {})[dtype] = real_models.rounded(found)
            outputs.write(report, arguments.output)


if __name__ == "__main__":
    main()
