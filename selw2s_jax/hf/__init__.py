"""Hugging Face folders: weights, configs and tokenizers, read without torch and without remote code."""
