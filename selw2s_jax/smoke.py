"""Models and questions to try things on, made on the spot and offline: what users import of `worlds.smoke`."""

from selw2s_jax.worlds.smoke import RANDOM_MODELS, data_folder, model_folder

__all__ = ["RANDOM_MODELS", "data_folder", "model_folder"]
