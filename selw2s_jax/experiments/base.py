"""What experiments have in common, whatever their models learn: config, inputs, models, seeds."""

from typing import Any

import ml_collections

from selw2s_jax import config as config_lib
from selw2s_jax.experiments import once
from selw2s_jax.hf import pretrained
from selw2s_jax.stages import pretrain
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib


class Experiment:
    """The stages of a run; each is made when it is first asked for.

    Args:
        config: the validated config.
        inputs: what its stages read.

    Attributes:
        inputs: those.
        settings: of its stages.
    """

    def __init__(self, config: ml_collections.ConfigDict, inputs: Any):
        self._config, self.inputs = config, inputs
        self.settings = settings_lib.Settings.of(config)
        self._stages: dict[tuple, stage_lib.Stage] = {}

    @property
    def config(self) -> ml_collections.ConfigDict:
        """The validated config."""
        return self._config

    def model(self, slot: str) -> pretrained.Model:
        """A model by its `pretrained.Model.slot`.

        Raises:
            KeyError: the run has none there.
        """
        return {model.slot: model for model in self.inputs.models}[slot]

    @once.once
    def pretraining(self, slot: str) -> pretrain.Pretrain | None:
        """The stage that makes a model, where the run has to make it."""
        recipe = self.inputs.recipes.get(slot)
        if recipe is None:
            return None
        model = self.model(slot)
        return pretrain.Pretrain(f"pretraining of the {model.role} model", self.settings, model, recipe)

    def seed_for(self, base: int, purpose: str) -> int:
        """The seed of one purpose, of a base seed."""
        return config_lib.seed_for(self._config, base, purpose)
