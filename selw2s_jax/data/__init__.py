"""Tasks, splits, prompts and packed batches."""
