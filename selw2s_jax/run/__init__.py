"""A run: which stages are missing, in which order they are made, and what is written of them."""
