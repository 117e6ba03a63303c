"""Embeddings of images: the last feature map of a pretrained timm model, averaged over the image (Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor
from typing_extensions import override

from estitchup_pl.embed.embedder import Embedder
from estitchup_pl.embed.pictures import MAX_PIXELS, read_picture
from estitchup_pl.errors import ConfigError, DataError, did_you_mean
from estitchup_pl.optional import require


def average_pool(features: Tensor, *, channels_last: bool = False) -> Tensor:
    """Global average of a feature map.

    Args:
        features: Float ``(batch, channels, height, width)``.
        channels_last: The map is ``(batch, height, width, channels)`` instead, as in Swin.

    Returns:
        float32 ``(batch, channels)``.

    Example:
        >>> average_pool(torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])).tolist()
        [[2.0, 5.0]]
    """
    return features.to(torch.float32).mean(dim=(1, 2) if channels_last else (2, 3))


class ImageEmbedder(Embedder):
    """Any model of the timm library, with the transform that its own data config describes.

    The default is the paper's model (Sec. 3.2): EfficientNet B4, global average of the final convolutional
    feature map, 1792 numbers an image. Values are the bytes of image files in any format that Pillow reads, taken as
    viewers show them: turned as their EXIF orientation says, transparent parts over white.

    Args:
        model: timm name. With pretrained weights the tag is part of it, e.g. ``efficientnet_b4.ra2_in1k``.
        checkpoint: File with local weights, instead of the pretrained ones.
        pretrained: Use timm's pretrained weights; false without ``checkpoint`` means random ones.
        pooling: ``average`` of the final feature map, or the model's own ``head`` without its classifier (class
            token, attention pooling ...), which vision transformers need.
        model_args: Further arguments of ``timm.create_model``.
        data_config: Entries of the model's data config to replace, e.g. ``mean``, ``std``, ``input_size``.
        max_pixels: Pixels of a picture at most; a larger one is a value that cannot be read.

    Raises:
        ConfigError: At :meth:`load`, for an unknown model, missing weights, or a pooling that does not fit it.
    """

    def __init__(
        self,
        model: str = "efficientnet_b4.ra2_in1k",
        checkpoint: str | None = None,
        pretrained: bool = True,
        pooling: Literal["average", "head"] = "average",
        model_args: dict[str, Any] | None = None,
        data_config: dict[str, Any] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__()
        if max_pixels < 1:
            raise ConfigError(f"max_pixels: expected at least 1, got {max_pixels}")
        if pooling not in ("average", "head"):
            raise ConfigError(f"pooling: expected average or head, got {pooling!r}")
        self.encoder_name = model
        self.checkpoint = checkpoint
        self.pretrained = pretrained and checkpoint is None
        self.pooling = pooling
        self.model_args = dict(model_args or {})
        self.data_config = dict(data_config or {})
        self._max_pixels = max_pixels  # decides whether there is an embedding, not which

    def load(self) -> None:
        """Build the model in channels-last layout (faster on CPUs and GPUs) and its evaluation transform."""
        timm = require("timm", "embed", "ImageEmbedder")
        pillow: Any = require("PIL.Image", "embed", "ImageEmbedder")
        pillow.MAX_IMAGE_PIXELS = None  # max_pixels stands in its place
        self._check_name(timm)
        if self.checkpoint and not Path(self.checkpoint).is_file():
            raise ConfigError(f"checkpoint: there is no file {self.checkpoint}")
        with _explain_failure(self.encoder_name, self.checkpoint):
            model = timm.create_model(
                self.encoder_name,
                pretrained=self.pretrained,
                checkpoint_path=self.checkpoint or "",
                **self.model_args,
            )
        self.model = model.eval().to(memory_format=torch.channels_last)
        # Every name a data config can have, so that a misspelt one does not go unheard.
        known = {*timm.data.resolve_model_data_config(model), "num_classes"}
        for name in self.data_config:
            if name not in known:
                raise ConfigError(f"data_config: there is no entry {name!r}{did_you_mean(name, known)}")
        self._data = timm.data.resolve_data_config(self.data_config, model=model)
        self._transform = timm.data.create_transform(**self._data, is_training=False)

    @property
    def dim(self) -> int:
        """Channels of the final feature map, or what the model's head makes of them."""
        if self.pooling == "head":
            return int(getattr(self.model, "head_hidden_size", None) or self.model.num_features)
        return int(self.model.num_features)

    def prepare(self, value: Any) -> Tensor:
        """Decode an image file's bytes and apply the model's own evaluation transform: ``(3, height, width)``."""
        if isinstance(value, str):
            raise ConfigError(
                f"images: the column holds text ({value[:80]!r}), not image bytes. If these are paths, say what "
                "they are relative to: root (a folder or a zip file; '.' for the working directory, '/' where they are "
                "whole)."
            )
        if not isinstance(value, bytes):
            raise DataError(f"expected the bytes of an image file, got {type(value).__name__}")
        pixels: Tensor = self._transform(read_picture(value, self._max_pixels))
        return pixels

    def collate(self, prepared: list[Tensor]) -> Tensor:
        """Stack to ``(batch, 3, height, width)``."""
        return torch.stack(prepared).contiguous(memory_format=torch.channels_last)

    def embed(self, batch: Tensor) -> Tensor:
        """Average the final feature map, or run the head up to its classifier: float32 ``(batch, dim)``."""
        features: Tensor = self.model.forward_features(batch)
        if self.pooling == "head":
            hidden: Tensor = self.model.forward_head(features, pre_logits=True)
            return hidden.to(torch.float32)
        if features.ndim != 4:
            raise ConfigError(
                f"pooling: model {self.encoder_name!r} has no feature map to average (its features are "
                f"{tuple(features.shape)}). Set pooling: head."
            )
        return average_pool(features, channels_last=getattr(self.model, "output_fmt", "NCHW") == "NHWC")

    def describe(self) -> dict[str, str | None]:
        """Name of the model and pooling; the revision is the pretrained tag in the name, or the local file's name."""
        tag = self.encoder_name.partition(".")[2] or None
        revision = Path(self.checkpoint).name if self.checkpoint else tag
        pooling = "average of the final feature map" if self.pooling == "average" else "the model's head"
        return {"encoder": self.encoder_name, "pooling": pooling, "revision": revision}

    def fingerprint(self) -> dict[str, Any]:
        """Settings, and the transform that came out of the data config."""
        return {**super().fingerprint(), "transform": str(self._transform)}

    @override
    @classmethod
    def from_fingerprint(cls, settings: Mapping[str, Any]) -> Self:
        return super().from_fingerprint({"model": settings["encoder_name"], **settings})

    def _check_name(self, timm: Any) -> None:
        name, _, tag = self.encoder_name.partition(".")
        if ":" in name or "/" in name:  # timm's own schemes, e.g. hf-hub:owner/model
            return
        if not timm.is_model(name):
            models = timm.list_models()
            raise ConfigError(f"model: timm has no {name!r}{did_you_mean(name, models)}")
        tags = [known.partition(".")[2] for known in timm.list_models(f"{name}.*", pretrained=True)]
        if self.pretrained and tag not in tags:
            raise ConfigError(
                f"model: name the pretrained weights of {name!r} by their tag, got {self.encoder_name!r}. "
                f"There are: {', '.join(f'{name}.{known}' for known in tags) or 'none (give a checkpoint)'}"
            )


@contextmanager
def _explain_failure(model: str, checkpoint: str | None) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        source = f"local weights {checkpoint}" if checkpoint else "timm's weights (a download, or its cached copy)"
        raise ConfigError(f"model {model!r} with {source} cannot be loaded. timm says: {error}") from error
