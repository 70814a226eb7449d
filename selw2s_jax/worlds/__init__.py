"""Inputs that a run makes itself: generated questions, random checkpoints, and the small world with its text."""
