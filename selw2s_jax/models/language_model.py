"""A language model that is trained, and writes: a decoder with its language-model head, and adapters beside it."""

from flax import nnx

from selw2s_jax.models import decoder, lora


class LanguageModel(nnx.Module):
    """A decoder with its language-model head, tied or not, whose weights may be adapted.

    It stands wherever a decoder with a language-model head is asked for answers (`inference.generate`,
    `inference.prefix`, `inference.candidates`, `inference.fewshot`): their calls are passed on with the adapters, whose
    product is never added to the weights. In bfloat16 that sum rounds most of the product away.

    Args:
        backbone: with `lm_head=True`.
        adapters: how the decoder's weights are adapted, None where they are not. The head is not.
        seed: that the adapters start from.
        param_dtype: of the adapters; default the decoder's.
    """

    def __init__(
        self,
        backbone: decoder.Decoder,
        *,
        adapters: lora.Settings | None = None,
        seed: int = 0,
        param_dtype=None,
    ):
        self.backbone = backbone
        self.adapters = lora.adapt(backbone, adapters, seed=seed, param_dtype=param_dtype)

    @property
    def config(self):
        return self.backbone.config

    @property
    def settings(self):
        return self.backbone.settings

    @property
    def mesh(self):
        return self.backbone.mesh

    @property
    def has_lm_head(self) -> bool:
        return self.backbone.has_lm_head

    def hidden_states(
        self, tokens, segment_ids=None, positions=None, *, reads=None, dropout=None, cache=None
    ):
        """As of `Decoder`, which see for all of these; `dropout` of the adapters, in training."""
        return self.backbone.hidden_states(
            tokens, segment_ids, positions, reads=reads, adapters=self.adapters, dropout=dropout, cache=cache
        )

    def extend(self, tokens, segment_ids=None, positions=None, **options):
        return self.backbone.extend(tokens, segment_ids, positions, adapters=self.adapters, **options)

    def unstack(self):
        return self.backbone.unstack()

    def lm_logits(self, hidden):
        return self.backbone.lm_logits(hidden)

    def answer_logits(self, hidden, token_ids):
        return self.backbone.answer_logits(hidden, token_ids)

    def token_log_probs(self, hidden, targets):
        return self.backbone.token_log_probs(hidden, targets)
