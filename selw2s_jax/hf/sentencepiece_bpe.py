"""SentencePiece BPE models of Llama 1 and 2 and Mistral (tokenizer.model) as tokenizers of the tokenizers library."""

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from selw2s_jax import errors
from selw2s_jax.hf import tokenizer_settings

if TYPE_CHECKING:
    import tokenizers


class Found(NamedTuple):
    """A tokenizer, and its special tokens by name."""

    backend: "tokenizers.Tokenizer"
    special_tokens: dict[str, str]


def read(path: pathlib.Path, *, prefix: bool = True) -> Found:
    """The tokenizer of a Llama-style SentencePiece model, as in the tokenizer.json of Llama 2 and Mistral 7B.

    The mark `▁` stands for a space, and one more is put in front of every text and behind every special token, also
    before a space. (transformers 5 builds another from the name of the class, which loses a space at the beginning.)

    Merges follow the scores of the pieces. Their ids are another order: pieces such as `▁▁` come early but
    score -1e9, and transformers 5, which takes the ids, splits runs of spaces as no model was trained to.

    Args:
        prefix: whether that mark is put in front, `add_prefix_space` of tokenizer_config.json.

    Raises:
        UserError: the sentencepiece package is missing, or the file is damaged or of another style.
    """
    import tokenizers
    from tokenizers import decoders, models, normalizers

    proto = _parse(path)
    ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    with tokenizer_settings.library_errors(f"{path} cannot be read", "download it again"):
        model = models.BPE(
            vocab=ids,
            merges=_merges(proto, ids),
            unk_token=proto.trainer_spec.unk_piece,
            fuse_unk=True,
            byte_fallback=True,
        )
    backend = tokenizers.Tokenizer(model)
    mark, strip = [normalizers.Prepend("▁")] * prefix, [decoders.Strip(" ", 1, 0)] * prefix
    backend.normalizer = normalizers.Sequence([*mark, normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    for piece in proto.pieces:
        if piece.type in (piece.UNKNOWN, piece.CONTROL):
            backend.add_special_tokens([piece.piece])
    bos_id = proto.trainer_spec.bos_id
    has_bos = 0 <= bos_id < len(proto.pieces)
    return Found(backend, {"bos_token": proto.pieces[bos_id].piece} if has_bos else {})


def _parse(path: pathlib.Path):
    """The protocol buffer of a model that is known to be of Llama's style."""
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise errors.UserError(
            f"{path} needs the sentencepiece package: pip install 'selw2s-jax[llama]', or add tokenizer.json"
        ) from error

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as error:  # DecodeError, of the protobuf package that sentencepiece brings
        raise tokenizer_settings.damaged(path, error) from error
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if not (
        trainer.model_type == trainer.BPE
        and trainer.byte_fallback
        and normalizer.name == "identity"
        and normalizer.add_dummy_prefix
        and not normalizer.remove_extra_whitespaces
        # No mark is put behind these, and Llama and Mistral have none.
        and not any(piece.type == piece.USER_DEFINED for piece in proto.pieces)
    ):
        raise errors.UserError(f"{path} is not Llama-style SentencePiece: add the model's tokenizer.json")
    texts = [piece.piece for piece in proto.pieces]
    # protobuf hands out bytes where a text is not UTF-8.
    if len(set(texts)) != len(texts) or not all(isinstance(text, str) and text for text in texts):
        raise errors.UserError(
            f"{path} cannot be read (a piece is no text, or is there twice): download it again"
        )
    return proto


def _merges(proto, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of pieces in the order in which they are joined: by the score of what they make."""
    merges = []
    for piece in proto.pieces:
        if piece.type == piece.NORMAL:
            splits = [(piece.piece[:i], piece.piece[i:]) for i in range(1, len(piece.piece))]
            splits = [(left, right) for left, right in splits if left in ids and right in ids]
            splits.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
            merges += [(piece.score, left, right) for left, right in splits]
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    return [(left, right) for _, left, right in merges]
