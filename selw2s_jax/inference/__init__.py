"""Batched scoring: class-head predictions and few-shot answers."""
