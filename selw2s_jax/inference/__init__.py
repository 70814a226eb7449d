"""Batched scoring and generation: class-head predictions, few-shot answers, completions."""
