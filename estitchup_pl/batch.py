from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

NONE: Final = -1
"""Label of every item outside the known classes: the paper's "none" category (Sec. 2.5)."""


@dataclass
class EmbeddingBatch:
    """One batch on its way from the data module through the callbacks to the classifier.

    Lightning hands one and the same object to every callback's ``on_train_batch_start`` and then to
    ``training_step``, so a callback changes a batch by *rebinding* its fields. Never write into a field's
    tensor: it may share memory with the store.

    The class has ``pin_memory`` but, on purpose, no ``to``: Lightning then copies the object and moves its
    fields, so that rebinding a field never reaches back into what a loader keeps.

    Attributes:
        embeddings: Concatenated modalities, float ``(*stack, batch, dim)``.
        targets: Target per class in ``[0, 1]``, float ``(*stack, batch, classes)``; one-hot until a callback
            changes it, all zeros for "none". Rows need not sum to one (Sec. 2.4).
        labels: Class index or :data:`NONE`, int64 ``(*stack, batch)``.
        rows: Row of each item in its store, int64 ``(*stack, batch)``.
    """

    embeddings: Tensor
    targets: Tensor
    labels: Tensor
    rows: Tensor

    def pin_memory(self) -> EmbeddingBatch:
        """Return a copy whose tensors lie in page-locked memory, for asynchronous transfer to a GPU."""
        return EmbeddingBatch(
            self.embeddings.pin_memory(),
            self.targets.pin_memory(),
            self.labels.pin_memory(),
            self.rows.pin_memory(),
        )
