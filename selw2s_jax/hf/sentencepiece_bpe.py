"""SentencePiece BPE models of Llama 1 and 2 and Mistral (tokenizer.model) as tokenizers of the tokenizers library."""

import pathlib
from typing import TYPE_CHECKING, NamedTuple

from selw2s_jax import errors

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
        reason = " ".join(str(error).split())
        raise errors.UserError(f"{path} cannot be read ({reason}): download it again") from error
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if not (
        trainer.model_type == trainer.BPE
        and trainer.byte_fallback
        and normalizer.name == "identity"
        and normalizer.add_dummy_prefix
        and not normalizer.remove_extra_whitespaces
    ):
        raise errors.UserError(f"{path} is not Llama-style SentencePiece: add the model's tokenizer.json")

    ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    merges = []
    for piece in proto.pieces:
        if piece.type == piece.NORMAL:
            splits = [(piece.piece[:i], piece.piece[i:]) for i in range(1, len(piece.piece))]
            splits = [(left, right) for left, right in splits if left in ids and right in ids]
            splits.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
            merges += [(piece.score, left, right) for left, right in splits]
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)

    pairs = [(left, right) for _, left, right in merges]
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=ids, merges=pairs, unk_token=trainer.unk_piece, fuse_unk=True, byte_fallback=True)
    )
    mark, strip = [normalizers.Prepend("▁")] * prefix, [decoders.Strip(" ", 1, 0)] * prefix
    backend.normalizer = normalizers.Sequence([*mark, normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    for piece in proto.pieces:
        if piece.type in (piece.UNKNOWN, piece.CONTROL, piece.USER_DEFINED):
            special = piece.type != piece.USER_DEFINED
            backend.add_tokens([tokenizers.AddedToken(piece.piece, normalized=False, special=special)])
    has_bos = 0 <= trainer.bos_id < len(proto.pieces)
    return Found(backend, {"bos_token": proto.pieces[trainer.bos_id].piece} if has_bos else {})
