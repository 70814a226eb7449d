"""The stage that makes a language model of a generated world, which stages that start from it need."""

import dataclasses
import json

from selw2s_jax import sharding
from selw2s_jax.hf import pretrained, tokenizers, writer
from selw2s_jax.models import decoder
from selw2s_jax.runtime import artifacts, distributed
from selw2s_jax.stages import settings as settings_lib
from selw2s_jax.stages import stage as stage_lib
from selw2s_jax.stages import workbench
from selw2s_jax.training import fit, pretraining
from selw2s_jax.worlds import world

NAME = "pretrain"


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrain(stage_lib.Stage):
    """Pretraining of a model.

    Attributes:
        model: to be.
        recipe: which its weights are a function of.
    """

    name = NAME
    settings: settings_lib.Settings
    model: pretrained.Model
    recipe: world.Recipe

    @property
    def inputs(self):
        return self.recipe.inputs

    @property
    def detail(self):
        num_steps = self.recipe.optimizer.num_steps
        tokens = num_steps * self.recipe.batch_rows * self.recipe.row_length
        return f"{self._num_params} parameters, {num_steps} steps, {tokens / 1e6:.1f} M tokens"

    @property
    def num_bytes(self):
        return self._num_params * 4

    @property
    def state_bytes(self):
        return 3 * self.num_bytes

    @property
    def _num_params(self) -> int:
        return decoder.num_params(self.model.config, lm_head=True)

    def write(self, folder, bench: workbench.Workbench) -> None:
        """Writes the model as a Hugging Face folder."""
        bench.release()
        recipe, mesh = self.recipe, bench.mesh_for(self.settings, self.model)
        print("  writing and packing the text", flush=True)
        data = recipe.text_batches(row_multiple=sharding.num_row_groups(mesh))
        options = self.settings.classifier(self.model, mesh, p_ik_head=False).decoder_options
        options |= {"param_dtype": "float32", "compute_dtype": recipe.compute_dtype, "lm_head": True}
        fitted = fit.fit(
            data,
            decoder.abstract_decoder(recipe.model, **options),
            lambda: pretraining.initialize(recipe.model, recipe.seed, **options),
            objective="next token",
            computation=pretraining.next_token(),
            optimizer=recipe.optimizer,
            mesh=mesh,
            files=bench.files(self, self.settings),
            train_steps=bench.train_steps,
            keep_trace=False,
        )
        writer.save_checkpoint(folder, recipe.model, fitted.state.params)
        if distributed.is_main():
            for file in tokenizers.load_tokenizer(recipe.tokenizer_folder).files:
                (folder / file.name).write_bytes(file.read_bytes())
        summary = {**fitted.metrics, "tokens": data.num_tokens, **fitted.times}
        artifacts.write_text(folder / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
