"""Time of a training epoch with E-Mixup against torch-uncertainty's classification routine with its mixup.

Its side is what its tutorials show: a plain ``DataLoader`` over a ``TensorDataset``, ``ClassificationRoutine`` with
``mixup``, its ``TUTrainer``, every default on; the network, the loss and the optimizer are ours. Needs
``pip install torch-uncertainty``::

    python benchmarks/torch_uncertainty_routine.py --rows 4400 --dim 4864 --classes 171
"""

from __future__ import annotations

import statistics
import tempfile
import warnings

import lightning.pytorch as pl
import numpy as np
import torch
from epoch import EpochClock, lightning_epochs, make_store, options_of
from torch.utils.data import DataLoader, TensorDataset
from torch_uncertainty import TUTrainer
from torch_uncertainty.routines import ClassificationRoutine

from estitchup_pl import EmbeddingMLP, EmbeddingStore
from estitchup_pl.callbacks import EMixup


def routine_epochs(store: EmbeddingStore, batch: int, epochs: int, classes: int) -> list[float]:
    rows = len(store) - 128
    data = TensorDataset(torch.from_numpy(store.gather(np.arange(rows))), torch.randint(0, classes, (rows,)))
    network = EmbeddingMLP(data.tensors[0].shape[1], classes)
    routine = ClassificationRoutine(
        network,
        classes,
        torch.nn.BCEWithLogitsLoss(),
        optim_recipe=torch.optim.AdamW(network.parameters(), lr=3e-4, weight_decay=1e-4, fused=True),
        mixup_params={"mixtype": "mixup", "mixup_alpha": 0.4},
    )
    clock = EpochClock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = TUTrainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[clock],
            default_root_dir=folder,
            limit_val_batches=0,
            enable_model_summary=False,
        )
        trainer.fit(routine, DataLoader(data, batch_size=batch, shuffle=True))
    return clock.seconds[1:-1]


def main() -> None:
    options = options_of(__doc__)
    warnings.simplefilter("ignore")
    pl.seed_everything(0, verbose=False)
    store = make_store(options.rows + 128, options.dim, options.classes)
    theirs: list[float] = []
    ours: list[float] = []
    for _ in range(options.turns):
        theirs += routine_epochs(store, options.batch, options.epochs, options.classes)
        ours += lightning_epochs(store, options.batch, options.epochs, EMixup())
    print(f"torch-uncertainty  {statistics.median(theirs) * 1000:8.1f} ms an epoch")
    print(f"estitchup_pl       {statistics.median(ours) * 1000:8.1f} ms an epoch")
    print(f"ratio              {statistics.median(ours) / statistics.median(theirs):.3f}")


if __name__ == "__main__":
    main()
