"""The stage that trains the heads of a classifier on embeddings, without the model that made them."""

import dataclasses

from flax import nnx

from selw2s_jax.hf import pretrained
from selw2s_jax.models import heads
from selw2s_jax.stages import train
from selw2s_jax.training import step


@dataclasses.dataclass(frozen=True, eq=False)
class Probe(train.Train):
    """Training of the heads alone, of examples with the column `batches.EMBEDDINGS`.

    What it keeps is what `train.Train` keeps of a linear probe: whole classifiers are made of it alike.
    """

    forward = staticmethod(step.classify_embeddings)

    def abstract_of(self, built: pretrained.ClassifierSettings) -> heads.Probe:
        return nnx.eval_shape(lambda: self.untrained(built))

    def untrained(self, built: pretrained.ClassifierSettings) -> heads.Probe:
        return pretrained.probe(self.model.config, built)
