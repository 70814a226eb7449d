"""Workers of torch and transformers: what others run, written for this comparison.

`openai` has the semantics of openai/weak-to-strong: every example by itself, the losses of a step's 32 forward passes
in one backward pass, Adam. `tuned` is a careful loop: padded to the longest of the batch, SDPA, the head at the last
token alone, fused AdamW without decay (which is Adam), autocast to bfloat16 where it is asked for.
"""

import argparse
import json

import numpy as np
import torch
import transformers

from benchmarks.loops import protocol

_SCORED_AT_ONCE = 64


def make_backbone(args) -> torch.nn.Module:
    """GPT-2 from the checkpoint, or a model of the sizes with random weights; Qwen2 is Qwen with its tensors split."""
    attention = "eager" if args.style == "openai" else "sdpa"
    quiet = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)
    if args.checkpoint:
        return transformers.GPT2Model.from_pretrained(
            args.checkpoint, attn_implementation=attention, use_safetensors=True, use_cache=False, **quiet
        )
    sizes = json.loads(args.sizes)
    if sizes["family"] == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=sizes["vocab_size"],
            n_embd=sizes["embed_dim"],
            n_layer=sizes["num_layers"],
            n_head=sizes["num_heads"],
            use_cache=False,
            **quiet,
        )
        make = transformers.GPT2Model
    else:
        config = transformers.Qwen2Config(
            vocab_size=sizes["vocab_size"],
            hidden_size=sizes["embed_dim"],
            intermediate_size=sizes["mlp_dim"],
            num_hidden_layers=sizes["num_layers"],
            num_attention_heads=sizes["num_heads"],
            num_key_value_heads=sizes["num_heads"],
            use_cache=False,
        )
        make = transformers.Qwen2Model
    config._attn_implementation = attention
    with torch.device(args.device):
        return make(config)


class Loop:
    """A model, its optimizer and the examples."""

    def __init__(self, args):
        torch.manual_seed(0)
        self.style, self.device = args.style, torch.device(args.device)
        self.examples, self.num_scored = protocol.load_examples(args.examples), args.scored
        self.order: list[list[int]] = []
        self.backbone = make_backbone(args).to(self.device, torch.float32).train()
        hidden = self.backbone.config.hidden_size
        self.head = torch.nn.Linear(hidden, 2, bias=False, device=self.device)
        torch.nn.init.zeros_(self.head.weight)
        params = [*self.backbone.parameters(), *self.head.parameters()]
        if args.style == "openai":
            self.optimizer = torch.optim.Adam(params, lr=protocol.LEARNING_RATE)
        else:
            self.optimizer = torch.optim.AdamW(
                params, lr=protocol.LEARNING_RATE, weight_decay=0.0, fused=True
            )
        is_narrow = args.dtype == "bfloat16"
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=is_narrow)

    def _logits(self, members: list[int]) -> torch.Tensor:
        """Of a batch padded on the right to its longest example: [E, 2] float32."""
        tokens = [self.examples.tokens[i] for i in members]
        longest = max(map(len, tokens))
        ids, mask = np.zeros((2, len(tokens), longest), np.int64)
        for row, own in enumerate(tokens):
            ids[row, : len(own)], mask[row, : len(own)] = own, 1
        last = torch.tensor([len(own) - 1 for own in tokens], device=self.device)
        ids, mask = torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)
        mask = None if len(tokens) == 1 else mask
        with self.autocast:
            hidden = self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.head(hidden[torch.arange(len(tokens), device=self.device), last].float())

    def train(self, k: int) -> float:
        members = self.order[k % len(self.order)]
        if self.style == "openai":
            logits = torch.cat([self._logits([i]) for i in members])
        else:
            logits = self._logits(members)
        labels = torch.from_numpy(self.examples.labels[members]).to(self.device)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def train_many(self, num_steps: int) -> float:
        return [self.train(k) for k in range(num_steps)][-1]

    def score(self, _: int) -> list[float]:
        size = 1 if self.style == "openai" else _SCORED_AT_ONCE
        members = range(min(self.num_scored, len(self.examples.tokens)))
        with torch.inference_mode():
            chunks = [self._logits(list(members[start : start + size])) for start in members[::size]]
        return torch.cat(chunks).softmax(dim=-1)[:8, 1].tolist()

    def take_order(self, path: str) -> int:
        self.order = np.load(path).tolist()
        return len(self.order)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--style", choices=("openai", "tuned"), required=True)
    parser.add_argument("--examples", required=True)
    parser.add_argument("--order", required=True)
    parser.add_argument("--checkpoint")
    parser.add_argument("--sizes", required=True, help="a registry.ModelConfig as JSON")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scored", type=int, required=True)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    loop = Loop(args)
    loop.take_order(args.order)
    protocol.serve({"train": loop.train, "score": loop.score, "train_many": loop.train_many})


if __name__ == "__main__":
    main()
