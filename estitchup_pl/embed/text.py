"""Embeddings of text: hidden layers of a pretrained transformer, pooled over the tokens (Sec. 3.2)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Literal, Self, get_args

import torch
from torch import Tensor
from typing_extensions import override

from estitchup_pl.embed.embedder import Embedder, Prepared
from estitchup_pl.embed.markup import strip_markup
from estitchup_pl.errors import ConfigError, DataError
from estitchup_pl.optional import require

Pooling = Literal["mean", "first", "last"]

_TOKENIZER_LOCK: Final = threading.Lock()
"""Fast tokenizers keep the truncation as a state, and are parallel inside: one call at a time."""


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens.

    Args:
        hidden: Outputs of one layer, float ``(batch, tokens, dim)``.
        mask: 1 for real tokens (special ones such as [CLS] included), 0 for padding, ``(batch, tokens)``.

    Returns:
        float32 ``(batch, dim)``.

    Example:
        >>> hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
        >>> mean_pool(hidden, torch.tensor([[1, 1, 0]])).tolist()
        [[2.0]]
    """
    weights = mask.to(torch.float32)
    total = torch.einsum("btd,bt->bd", hidden.to(torch.float32), weights)
    return total / weights.sum(-1, keepdim=True)


def first_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Output of the first real token, BERT's [CLS]; shapes as in :func:`mean_pool`."""
    return _token(hidden, mask.argmax(-1))


def last_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Output of the last real token, for models that read left to right; shapes as in :func:`mean_pool`."""
    return _token(hidden, mask.shape[-1] - 1 - mask.flip(-1).argmax(-1))


def _token(hidden: Tensor, index: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), index].to(torch.float32)


_POOLINGS: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "mean": mean_pool,
    "first": first_pool,
    "last": last_pool,
}


class TextEmbedder(Embedder):
    """Any encoder of the transformers library: BERT, RoBERTa, DistilBERT, MiniLM, XLNet ...

    The default is the paper's recipe (Sec. 3.2): token mean of the last and of the second-to-last layer of BERT
    base, concatenated, 1536 numbers a text.

    Args:
        model: Name on the Hugging Face hub, or a local folder.
        layers: Hidden layers to concatenate, in this order; -1 is the last one, 0 the token embeddings.
        pooling: ``mean`` over the real tokens, or the ``first`` or ``last`` of them.
        max_length: Tokens kept of a text, special ones included; never more than the model can take.
        revision: Branch, tag or commit on the hub.
        strip_markup: Remove HTML tags and resolve entities first.
        model_args: Further arguments of ``AutoModel.from_pretrained``.

    Raises:
        ConfigError: At :meth:`load`, for a model that cannot be found or that lacks a layer asked for.
    """

    bucketing: ClassVar[bool] = True

    def __init__(
        self,
        model: str = "bert-base-uncased",
        layers: Sequence[int] = (-1, -2),
        pooling: Pooling = "mean",
        max_length: int = 512,
        revision: str | None = None,
        strip_markup: bool = False,
        model_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not layers:
            raise ConfigError("layers: expected at least one, e.g. [-1, -2], got none")
        if pooling not in _POOLINGS:
            raise ConfigError(f"pooling: expected one of {', '.join(get_args(Pooling))}, got {pooling!r}")
        if max_length < 1:
            raise ConfigError(f"max_length: expected at least 1 token, got {max_length}")
        self.encoder_name = model
        self.layers = tuple(layers)
        self.pooling = pooling
        self.max_length = max_length
        self.revision = revision
        self.strip_markup = strip_markup
        self.model_args = dict(model_args or {})

    def load(self) -> None:
        """Load tokenizer and model, in float32 (the option ``precision`` decides what it runs in)."""
        transformers = require("transformers", "embed", "TextEmbedder")
        with _quiet(transformers), _explain_failure(self.encoder_name, self.revision):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                self.encoder_name, revision=self.revision or "main"
            )
            model, report = transformers.AutoModel.from_pretrained(
                self.encoder_name,
                revision=self.revision or "main",
                output_loading_info=True,
                **self.model_args,
            )
        missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
        if missing:
            raise ConfigError(
                f"model {self.encoder_name!r}: {len(missing)} weights are not in the checkpoint, e.g. "
                f"{missing[0]!r}; its embeddings would be random. Choose a checkpoint of the whole encoder."
            )
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # unused here, and in some checkpoints not there, which makes it random
        self.model = model.float().eval()
        self._check_layers()
        self.max_length = min([self.max_length, *_length_limits(self._tokenizer, model.config)])

    @property
    def dim(self) -> int:
        """Width of a layer times the number of layers."""
        return int(self.model.config.hidden_size) * len(self.layers)

    def prepare_many(self, values: Sequence[Any]) -> list[Prepared | Exception | None]:
        """Tokenize texts: all at once, and again, with truncation, those that are too long."""
        texts = [self._text(value) for value in values]
        rows = [row for row, text in enumerate(texts) if isinstance(text, str) and text]
        whole = self._tokenize([texts[row] for row in rows], truncation=False)
        lengths = [len(encoded["input_ids"]) for encoded in whole]
        long = [k for k, length in enumerate(lengths) if length > self.max_length]
        shortened = self._tokenize([texts[rows[k]] for k in long], truncation=True, max_length=self.max_length)
        for k, encoded in zip(long, shortened, strict=True):
            whole[k] = encoded
        results: list[Prepared | Exception | None] = [text if isinstance(text, Exception) else None for text in texts]
        for row, encoded, length in zip(rows, whole, lengths, strict=True):
            kept = len(encoded["input_ids"])
            results[row] = Prepared(encoded, length=kept, cut=length - kept)
        return results

    def collate(self, prepared: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        """Pad token lists to the longest: int64 ``(batch, tokens)`` for each of the model's inputs."""
        longest = max(len(encoded["input_ids"]) for encoded in prepared)
        fill = {
            "input_ids": self._tokenizer.pad_token_id or 0,
            "token_type_ids": getattr(self._tokenizer, "pad_token_type_id", 0),
        }
        left = self._tokenizer.padding_side == "left"
        batch = {}
        for name in prepared[0]:
            padding = fill.get(name, 0)
            rows = [_pad(encoded[name], longest, padding, left=left) for encoded in prepared]
            batch[name] = torch.tensor(rows, dtype=torch.int64)
        return batch

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """Pool the chosen layers: float32 ``(batch, width * layers)``."""
        hidden = self.model(**batch, output_hidden_states=True).hidden_states
        pool = _POOLINGS[self.pooling]
        return torch.cat([pool(hidden[layer], batch["attention_mask"]) for layer in self.layers], dim=-1)

    @override
    @classmethod
    def from_fingerprint(cls, settings: Mapping[str, Any]) -> Self:
        return super().from_fingerprint({"model": settings["encoder_name"], **settings})

    def describe(self) -> dict[str, str | None]:
        """Name of the model, pooling with layers, and the commit that was loaded, where the hub told it."""
        commit = getattr(self.model.config, "_commit_hash", None)
        pooling = f"{self.pooling} of layers {', '.join(map(str, self.layers))}"
        return {"encoder": self.encoder_name, "pooling": pooling, "revision": commit or self.revision}

    def fingerprint(self) -> dict[str, Any]:
        """Settings, and a digest of the tokenizer."""
        return {**super().fingerprint(), "tokenizer": _tokenizer_digest(self._tokenizer)}

    def _text(self, value: Any) -> str | Exception:
        if not isinstance(value, str):
            return DataError(f"expected text, got {type(value).__name__}")
        return strip_markup(value) if self.strip_markup else value.strip()

    def _tokenize(self, texts: list[Any], **options: Any) -> list[dict[str, list[int]]]:
        if not texts:
            return []
        with _TOKENIZER_LOCK:
            encoded = self._tokenizer(texts, padding=False, verbose=False, **options)
        names = [name for name in self._tokenizer.model_input_names if name in encoded]
        return [{name: encoded[name][row] for name in names} for row in range(len(texts))]

    def _check_layers(self) -> None:
        count = int(self.model.config.num_hidden_layers) + 1
        for layer in self.layers:
            if not -count <= layer < count:
                raise ConfigError(
                    f"layers: model {self.encoder_name!r} has layers {-count} to {count - 1} "
                    f"(0: token embeddings, -1: last), got {layer}"
                )


def _pad(values: list[int], length: int, padding: int, *, left: bool) -> list[int]:
    rest = [padding] * (length - len(values))
    return rest + values if left else values + rest


def _length_limits(tokenizer: Any, config: Any) -> Iterator[int]:
    """What the tokenizer and the position embeddings allow; both may be missing or say "no limit"."""
    yield int(min(tokenizer.model_max_length, 1 << 30))
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its kin count positions from the padding index on, so that many fewer are left.
        offset = config.pad_token_id + 1 if config.model_type in _POSITIONS_AFTER_PADDING else 0
        yield positions - offset


_POSITIONS_AFTER_PADDING: Final = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"})


def _tokenizer_digest(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep the library's bar and its report on unused weights off the screen while loading."""
    logging = transformers.utils.logging
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def _explain_failure(model: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(
            f"model {model!r}{f' at revision {revision!r}' if revision else ''} cannot be loaded. Expected a local "
            "folder with config, weights and tokenizer, or a name on the Hugging Face hub (which needs a network, "
            f"or a copy in the cache of an earlier download). transformers says: {error}"
        ) from error
