"""A checkpoint is there whole or not at all, and a changed byte in it is noticed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import SMALL, classifier, data, trainer

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.errors import CheckpointError
from estitchup_pl.model.checkpoint_io import SEALED, AtomicCheckpointIO, check_seal, seal
from estitchup_pl.model.checkpoints import read_checkpoint


def checkpoint() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "epoch": 3,
        "global_step": 12,
        "state_dict": {"weight": torch.randn(4, 3, generator=generator), "bias": torch.tensor(0.5)},
        "hyper_parameters": {"class_names": ["ant", "bee"], "scaling": None},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(12.0)}}, "param_groups": [{"lr": 0.001}]}],
        "lr_schedulers": [{"last_epoch": 12}],
        "callbacks": {},
        "trained_on": {"split": {"class_path": "x.Y", "init_args": {}}, "digests": torch.arange(3)},
        "decision": {"calibrator": None, "score": None, "threshold": 0.5, "given": [], "basis": None},
    }


def test_what_was_written_before_stays_whole_where_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint(checkpoint(), path)
    before = path.read_bytes()

    def full_disk(content: object, file: Path) -> None:
        Path(file).write_bytes(before[: len(before) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: the checkpoint cannot be written .*No space left"):
        io.save_checkpoint(checkpoint(), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_it_is_renamed_within_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    save = torch.save

    def watched(content: object, file: Path) -> None:
        written.append(Path(file))
        save(content, file)

    monkeypatch.setattr(torch, "save", watched)
    AtomicCheckpointIO().save_checkpoint(checkpoint(), tmp_path / "new" / "last.ckpt")
    (place,) = written
    assert place.parent == tmp_path / "new"
    assert place.name != "last.ckpt"


@pytest.mark.parametrize("name", SEALED)
def test_every_part_is_sealed(name: str) -> None:
    sealed = checkpoint()
    seal(sealed)
    check_seal(sealed)
    for changed in ({**sealed, name: "other"}, {key: value for key, value in sealed.items() if key != name}):
        with pytest.raises(CheckpointError, match=f"{name} of the checkpoint .* damaged or edited"):
            check_seal(changed)
        check_seal(changed, set(SEALED) - {name})


@given(byte=st.integers(0, 4 * 3 * 4 - 1), bit=st.integers(0, 7))
def test_a_single_bit_of_a_weight_is_noticed(byte: int, bit: int) -> None:
    sealed = checkpoint()
    seal(sealed)
    damaged = copy.deepcopy(sealed)
    damaged["state_dict"]["weight"].view(torch.uint8).flatten()[byte] ^= 1 << bit
    with pytest.raises(CheckpointError, match="damaged or edited"):
        check_seal(damaged)


def test_it_survives_being_written_and_read(tmp_path: Path) -> None:
    sealed, io = checkpoint(), AtomicCheckpointIO()
    seal(sealed)
    io.save_checkpoint(sealed, tmp_path / "a.ckpt")
    check_seal(torch.load(tmp_path / "a.ckpt", weights_only=True))


def test_a_checkpoint_without_a_seal_passes() -> None:
    check_seal(checkpoint())


def test_a_fit_seals_its_checkpoint_and_damage_is_noticed_wherever_it_is_loaded(tmp_path: Path) -> None:
    run = trainer(tmp_path, epochs=1)
    run.fit(classifier(), data())
    run.save_checkpoint(tmp_path / "whole.ckpt")
    damaged = torch.load(tmp_path / "whole.ckpt", weights_only=True)
    check_seal(damaged)
    damaged["state_dict"]["network.0.weight"][0, 0] += 1e-3
    torch.save(damaged, tmp_path / "damaged.ckpt")
    EmbeddingClassifier.load_from_checkpoint(tmp_path / "whole.ckpt", network=SMALL)
    for load in (
        read_checkpoint,
        lambda path: EmbeddingClassifier.load_from_checkpoint(path, network=SMALL),
        lambda path: trainer(tmp_path).test(classifier(), data(), ckpt_path=path, weights_only=True, verbose=False),
        lambda path: trainer(tmp_path).fit(classifier(), data(), ckpt_path=path, weights_only=True),
    ):
        with pytest.raises(CheckpointError, match=r"state_dict of the checkpoint .* damaged or edited"):
            load(tmp_path / "damaged.ckpt")
