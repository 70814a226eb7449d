"""What untouched models make of the texts of an experiment: few-shot answers and embeddings."""

from selw2s_jax.data import batches, splits
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import base, once
from selw2s_jax.hf import pretrained
from selw2s_jax.inference import generate
from selw2s_jax.stages import answer, embed, examples

_OF_KERNELS = ("weak.student_half", "strong.student_half")


class Reading(base.Experiment):
    """An experiment on the splits of `splits.SeedData`, with the stages that read them with models as they are."""

    def split(self, model: pretrained.Model, seed: int, name: str) -> splits.Split:
        """A split as a model reads it, by its name in `splits.SeedData.named`."""
        split = self.inputs.by_seed[seed].named(name)
        if model.role != "weak":
            return split
        return split.read_as(self._config.weak.prompt).read_with(self.inputs.contexts.get((model.slot, seed)))

    @once.once
    def answers(self, seed: int, split_name: str) -> answer.Answer:
        """Few-shot answers on a split, by its name in `splits.SeedData`.

        Those that are written at length are sampled where P(IK) is trained on them, and greedy where it is tested.
        """
        split, section = getattr(self.inputs.by_seed[seed], split_name), self._config.p_ik
        sampling = None
        if split.task.is_generated:
            temperature = section.temperature if split_name == "p_ik" else 0.0
            sampling = generate.Settings(
                max_new_tokens=self._config.generation.max_new_tokens,
                num_samples=section.num_samples if temperature else 1,
                temperature=temperature,
                top_p=self._config.generation.top_p if temperature else 1.0,
                seed=self.seed_for(seed, "sampling") if temperature else 0,
            )
        return answer.Answer(
            f"few-shot answers on {split.task.name} ({splits.NAMES[split_name]}), seed {seed}",
            self.settings,
            self.inputs.strong,
            split,
            sampling,
            self.pretraining("strong"),
        )

    @once.once
    def embeddings(self, slot: str, seed: int, split_name: str) -> embed.Embed:
        """What a model, by its `pretrained.Model.slot`, makes of the texts of a split of `splits.SeedData.named`.

        Texts that an earlier seed has too are read once; a split that it has as it is, as the test, is one stage.
        """
        model = self.model(slot)
        split = self.split(model, seed, split_name)
        earlier = self._config.seeds[: tuple(self._config.seeds).index(seed)]
        others = dict.fromkeys(
            stage
            for (of, of_seed, _), stage in self.all_embeddings().items()
            if of == slot and of_seed in earlier
        )
        texts = set(split.texts)
        shares = [other for other in others if not texts.isdisjoint(other.split.texts)]
        if same := [other for other in shares if other.split.texts_hash == split.texts_hash]:
            return same[0]
        # Where no example is at hand, the label alone tells stages apart.
        suffix = "" if split_name == "test" and split.prompt != "fewshot" else f", seed {seed}"
        described = splits.NAMES[split_name.partition("@")[0]]
        return embed.Embed(
            f"embeddings by the {slot} model of {split.task.name} ({described}){suffix}",
            self.settings,
            model,
            split,
            self.pretraining(slot),
            tuple(shares),
        )

    @property
    def has_kernels(self) -> bool:
        """Whether the run compares what its two pretrained models see in the student's half."""
        return self._config.analysis.kernels and bool(self.inputs.weak)

    def named_embeddings(self) -> tuple[str, ...]:
        """Those that analyses ask for, each as a model and a split.

        Raises:
            UserError: kernels are asked for, and the student's half has no two rows to compare.
        """
        named = tuple(self._config.analysis.embeddings)
        if not self.has_kernels:
            return named
        fewest = min(len(of_seed.student_half) for of_seed in self.inputs.by_seed.values())
        if fewest == 1:  # 0: a plan without data
            raise UserError(
                "config.analysis.kernels compares rows of the student's half, which has one: raise data.num_train"
            )
        return tuple(dict.fromkeys((*named, *_OF_KERNELS)))

    def embeddings_by_name(self, name: str, seed: int) -> embed.Embed:
        """Those that `analysis.embeddings` names, as "strong.test".

        Raises:
            UserError: the run has none, or the model reads texts of a file that has none of that split.
        """
        slot, _, split_name = name.partition(".")
        has_model = slot in [model.slot for model in self.inputs.models]
        split = getattr(self.inputs.by_seed[seed], split_name)
        if not has_model or split is None:
            raise UserError(f"config.analysis.embeddings: this run has no {name}; leave it out")
        texts = self.inputs.contexts.get((slot, seed))
        if texts is not None and not texts.keys() >= {*split.ids}:
            raise UserError(
                f"config.analysis.embeddings: {name} is of questions behind which the model reads no text of "
                "weak.context_file, as they are neither of its own half nor of the student's or the test; leave it out"
            )
        return self.embeddings(slot, seed, split_name)

    def all_embeddings(self) -> dict[tuple[str, int, str], embed.Embed]:
        """Those that the stages asked for so far need, by model, seed and split."""
        return {tuple(of): stage for (name, *of), stage in self._stages.items() if name == "embeddings"}

    def embedded(self, model: pretrained.Model, seed: int, *split_names: str) -> dict[str, examples.Column]:
        """The column of a model's embeddings, where it is trained on them; of a split joined of those named."""
        if not self.settings.is_probe(model):
            return {}
        stages = tuple(self.embeddings(model.slot, seed, name) for name in split_names)
        return {batches.EMBEDDINGS: examples.Embeddings(stages)}
