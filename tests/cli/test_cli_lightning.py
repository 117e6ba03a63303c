"""The commands as a user types them: fit, test and predict on digits, and what they say to wrong calls."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from blobs import blobs_store
from commands import Run, runner

from estitchup_pl import EmbeddingClassifier
from estitchup_pl.cli import main
from estitchup_pl.data import StratifiedSplit, TrialSplit, digits_store
from estitchup_pl.store import EmbeddingStore
from estitchup_pl.store.labels import StoreLabels

CONFIGS = Path(__file__).parents[2] / "configs"
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--trainer.devices", "1")
QUICK = (*QUIET, "--trainer.max_epochs", "2", "--model.network.hidden", "[16]")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, monkeypatch, capfd)


def config(*names: str) -> list[str]:
    return [argument for name in names for argument in ("--config", str(CONFIGS / f"{name}.yaml"))]


def test_from_threshold_to_predictions_on_digits(run: Run, tmp_path: Path) -> None:
    files = config("method/soft_e_stitchup", "data/digits_threshold", "threshold/fit")
    assert run("fit", *files, *QUIET, "--trainer.max_epochs", "24")[0] == 0
    scout = "runs/version_0/checkpoints/last.ckpt"
    files = config("method/soft_e_stitchup", "data/digits", "threshold/take_over")
    assert run("fit", *files, *QUIET, "--trainer.max_epochs", "24", "--trainer.callbacks.checkpoint", scout)[0] == 0
    final = "runs/version_1/checkpoints/last.ckpt"
    for name in ("val/auroc", "val/accuracy_none", "train/loss", "val/threshold"):
        assert name in (tmp_path / "runs/version_1/metrics.csv").read_text().splitlines()[0].split(",")
    threshold = torch.load(scout, weights_only=True)["decision"]["threshold"]
    assert torch.load(final, weights_only=True)["decision"]["threshold"] == threshold > 0

    assert run("test", "--ckpt_path", final, *config("data/digits"), *QUIET)[0] == 0
    (metrics,) = csv.DictReader((tmp_path / "runs/version_2/metrics.csv").read_text().splitlines())
    assert float(metrics["test/auroc"]) > 0.9
    assert float(metrics["test/threshold"]) == pytest.approx(float(threshold))
    loaded = EmbeddingClassifier.load_from_checkpoint(final)  # what a command has saved loads in Python too
    assert loaded.threshold == threshold
    assert loaded.predict_proba({"pixels": torch.zeros(1, 64), "gradients": torch.zeros(1, 72)}).shape == (1, 8)
    assert run("validate", "--ckpt_path", final, *config("data/digits"), *QUIET)[0] == 0

    options = ("--data.store", "digits", "--data.predict_rows", "all", "--predictions.path", "out/p.parquet")
    assert run("predict", "--ckpt_path", final, *options, *QUIET)[0] == 0
    table = pq.read_table(tmp_path / "out/p.parquet")
    columns = ["id", "predicted", "confidence", "none_score", "threshold", "top_classes", "top_probabilities"]
    assert table.column_names == [*columns, "prediction_set", "trained_on", "problem"]
    trained = torch.load(final, weights_only=True)["trained_on"]["digests"]
    assert sum(table.column("trained_on").to_pylist()) == len(trained)
    assert table.num_rows == len(set(table.column("id").to_pylist())) == 1797
    rejected = pa.compute.equal(table.column("predicted"), "none").to_numpy()
    assert np.array_equal(rejected, table.column("confidence").to_numpy() <= float(threshold))


@pytest.mark.parametrize("method", ["logistic_regression", "lda"])
def test_a_head_solved_at_once_leaves_a_checkpoint_like_any_other(run: Run, tmp_path: Path, method: str) -> None:
    files = config("trainer/quick", "data/digits_threshold", f"method/{method}", "threshold/fit")
    assert run("fit", *files, *QUIET)[0] == 0
    checkpoint = "runs/version_0/checkpoints/last.ckpt"
    assert len(list(csv.DictReader((tmp_path / "runs/version_0/metrics.csv").read_text().splitlines()))) == 2
    assert run("test", "--ckpt_path", checkpoint, "--data.store", "digits", *QUIET)[0] == 0
    (metrics,) = csv.DictReader((tmp_path / "runs/version_1/metrics.csv").read_text().splitlines())
    assert float(metrics["test/auroc"]) > 0.8
    loaded = EmbeddingClassifier.load_from_checkpoint(checkpoint)
    assert float(metrics["test/threshold"]) == pytest.approx(loaded.threshold)
    assert loaded.scale.kinds == {"pixels": "centered_l2", "gradients": "centered_l2"}
    probabilities = loaded.predict_proba({"pixels": torch.rand(3, 64), "gradients": torch.rand(3, 72)})
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3))


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_full_disk_leaves_the_checkpoint_of_before(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(content: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    quick = ("--data.store", "digits", *QUICK, "--trainer.logger", "false", "--checkpoint.dirpath", "kept")
    assert run("fit", *quick)[0] == 0
    before = (tmp_path / "kept/last.ckpt").read_bytes()
    monkeypatch.setattr(torch, "save", full_disk)
    status, _, errors = run("fit", *quick)
    assert status == 1
    assert "kept/last.ckpt: the checkpoint cannot be written" in errors.replace("\n", "")
    assert "Traceback" not in errors
    assert (tmp_path / "kept/last.ckpt").read_bytes() == before
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["last.ckpt"]


def test_the_best_two_epochs_are_two_files(run: Run, tmp_path: Path) -> None:
    best = ("--checkpoint.monitor", "train/loss", "--checkpoint.mode", "max", "--checkpoint.save_top_k", "2")
    status, _, errors = run("fit", "--data.store", "digits", *QUICK, "--trainer.max_epochs", "4", *best)
    assert status == 0, errors
    files = sorted((tmp_path / "runs/version_0/checkpoints").iterdir())
    assert [torch.load(file, weights_only=True)["epoch"] for file in files] == [0, 1]  # the loss falls
    status, _, errors = run("fit", "--data.store", "digits", *QUICK, *best, "--checkpoint.filename", "best")
    assert status == 2
    assert "checkpoint.save_top_k=2 keeps several files, which would all be called 'best'" in errors


def test_a_users_own_class_from_a_file_beside_the_config_works(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "my_plugins.py").write_text(
        "from estitchup_pl.callbacks import EmbeddingAugmentation\n"
        "class HalfHalf(EmbeddingAugmentation):\n"
        "    def mix(self, embeddings, targets, lam, index, generator):\n"
        "        return (embeddings + embeddings[index]) / 2, (targets + targets[index]) / 2\n"
    )
    (place / "mine.yaml").write_text("trainer:\n  callbacks+:\n    - class_path: my_plugins.HalfHalf\n")
    status, _, errors = run("fit", "--config", "elsewhere/mine.yaml", "--data.store", "digits", *QUICK)
    assert status == 0, errors
    saved = yaml.safe_load((tmp_path / "runs/version_0/config.yaml").read_text())
    assert [callback["class_path"] for callback in saved["trainer"]["callbacks"]] == ["my_plugins.HalfHalf"]


def test_an_interrupted_fit_goes_on_from_its_saved_config(run: Run, tmp_path: Path) -> None:
    assert run("fit", *config("method/e_mixup", "data/digits"), *QUICK)[0] == 0
    saved, checkpoint = "runs/version_0/config.yaml", "runs/version_0/checkpoints/last.ckpt"
    assert run("fit", "--config", saved, "--ckpt_path", checkpoint, "--trainer.max_epochs", "3")[0] == 0
    resumed = torch.load(tmp_path / "runs/version_1/checkpoints/last.ckpt", weights_only=True)
    assert resumed["epoch"] == 2
    assert run("fit", *config("method/e_mixup", "data/digits"), *QUICK, "--trainer.max_epochs", "3")[0] == 0
    whole = torch.load(tmp_path / "runs/version_2/checkpoints/last.ckpt", weights_only=True)
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value)


def test_a_test_with_only_the_checkpoint_takes_its_split_and_no_training_row(run: Run, tmp_path: Path) -> None:
    options = ("--data.split.train_fraction", "0.8", "--data.split.trial", "5")
    assert run("fit", "--data.store", "digits", *options, *QUICK, "--trainer.max_epochs", "12")[0] == 0
    checkpoint = "runs/version_0/checkpoints/last.ckpt"
    assert run("test", "--data.store", "digits", "--ckpt_path", checkpoint, *QUIET)[0] == 0
    (metrics,) = csv.DictReader((tmp_path / "runs/version_1/metrics.csv").read_text().splitlines())
    store, split = digits_store(), StratifiedSplit(0.8, 5)
    labels = StoreLabels.read(store)
    rows = split.assign(store, labels).test
    model = EmbeddingClassifier.load_from_checkpoint(checkpoint)
    scores = model.predict_proba({name: store.gather(rows, [name]) for name in store.modalities})
    truth = labels.index(model.class_names)[rows]
    assert len(rows) == 359
    assert float(metrics["test/accuracy"]) == pytest.approx((scores.argmax(-1).numpy() == truth).mean(), abs=1e-6)

    other = ("--data.split", "TrialSplit", "--data.split.train_fraction", "0.5")
    count = len(np.intersect1d(TrialSplit(0, 0.5).assign(store, labels).test, split.assign(store, labels).train))
    for command, purpose in (("test", "test"), ("validate", "validate")):
        status, _, errors = run(command, "--data.store", "digits", "--ckpt_path", checkpoint, *other, *QUIET)
        assert status == 1
        assert f"{count} of 899 rows to {purpose} were trained on" in errors
        assert "StratifiedSplit(train_fraction=0.8, trial=5, unknown_classes=[], group=None)" in errors


def test_a_fit_ends_with_a_table_and_leaves_its_checkpoint_where_the_last_one_was(run: Run, tmp_path: Path) -> None:
    quick = ("--data.store", "digits", *QUICK, "--trainer.max_epochs", "1")
    for version in (0, 1):
        status, out, errors = run("fit", *quick)
        assert status == 0, errors
        assert (tmp_path / "runs/last.ckpt").resolve() == tmp_path / f"runs/version_{version}/checkpoints/last.ckpt"
    table = dict(line.split(maxsplit=1) for line in out.splitlines()[-30:] if len(line.split()) > 1)
    assert table["rows"] == "1,438 trained, of 10 classes; 359 validated"
    logged = list(csv.DictReader((tmp_path / "runs/version_1/metrics.csv").read_text().splitlines()))
    (aupr,) = [float(row["val/aupr"]) for row in logged if row["val/aupr"]]
    assert float(table["val/aupr"]) == pytest.approx(aupr, abs=6e-5)
    assert table["threshold"].startswith('none, so nothing is called "none"')
    assert table["checkpoint"] == "runs/last.ckpt"
    command = "estitchup test --data.store digits --ckpt_path runs/last.ckpt"
    assert table["next"] == command
    assert run(*command.split()[1:], *QUIET)[0] == 0


def test_a_fit_of_a_threshold_ends_with_what_it_rests_on_and_how_it_is_taken_over(run: Run, tmp_path: Path) -> None:
    files = config("data/digits_threshold", "threshold/fit")
    status, out, errors = run("fit", *files, *QUICK, "--checkpoint.dirpath", "kept")
    assert status == 0, errors
    decision = torch.load("kept/last.ckpt", weights_only=True)["decision"]
    basis, said = decision["basis"], re.sub(" {2,}", " ", out)
    assert f'threshold {decision["threshold"]:.4f} from {basis["none_rows"]} "none" rows and' in said
    assert f"others, 95 % interval over unknown classes {basis['low']:.3f} to {basis['high']:.3f}" in said
    assert f"{basis['none_rows'] + basis['known_rows']} validated, {basis['none_rows']} of them" in out
    assert "--config threshold/take_over --trainer.callbacks.checkpoint kept/last.ckpt" in out
    assert not (tmp_path / "runs/last.ckpt").exists()


def test_all_rows_can_train_and_then_none_is_left_to_test(run: Run) -> None:
    status, out, errors = run("fit", "--data.store", "digits", "--data.split.train_fraction", "1", *QUICK)
    assert status == 0, errors
    assert "1,797 trained, of 10 classes; none is left to validate" in out
    assert "estitchup test" not in out
    status, _, errors = run("test", "--data.store", "digits", "--ckpt_path", "runs/last.ckpt", *QUIET)
    assert status == 1
    assert "no row is left to test: all labelled ones train" in errors


def blobs_on_disk(folder: Path) -> Path:
    store = blobs_store(rows=2000, unlabelled=10)
    arrays = {name: store.gather(np.arange(len(store)), [name]) for name in store.modalities}
    EmbeddingStore.create(folder / "blobs", store.items.select(["id", "label"]), arrays)
    return folder / "blobs"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted(CONFIGS.glob("*/*.yaml"))
        if path.parent.name not in ("embed", "study") and path.stem not in ("mlflow", "sweep")  # tests/dashboards
    ],
    ids=lambda path: str(path.relative_to(CONFIGS).with_suffix("")),
)
def test_every_config_is_instantiated_and_run(run: Run, tmp_path: Path, path: Path) -> None:
    files = ["--config", str(path)]
    if path.parent.name != "data":
        files = [*config("data/digits_threshold"), *files]
    if path.stem.startswith("fashion"):
        files += ["--data.store", str(blobs_on_disk(tmp_path))]
    if path.stem == "gpus":
        files += ["--trainer.accelerator", "cpu", "--trainer.strategy", "auto"]
    if path.stem == "take_over":
        scout = [*config("data/digits_threshold", "threshold/fit"), *QUICK, "--trainer.max_epochs", "1"]
        assert run("fit", *scout)[0] == 0
        files[:2] = config("data/digits")
    size = () if path.stem in ("logistic_regression", "lda") else ("--model.network.hidden", "[16]")
    limits = ("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "2")
    status, _, errors = run("fit", *files, *limits, *QUIET, *size, "--trainer.max_epochs", "1")
    assert status == 0, errors


def test_an_option_of_a_default_class_needs_no_class(run: Run, tmp_path: Path) -> None:
    options = (
        "--data.split.train_fraction",
        "0.8",
        "--model.network.dropout",
        "0.1",
        "--model.lr_scheduler.max_lr",
        "0.1",
    )
    status, _, errors = run("fit", "--data.store", "digits", *options, *QUICK, "--trainer.max_epochs", "1")
    assert status == 0, errors
    saved = yaml.safe_load((tmp_path / "runs/version_0/config.yaml").read_text())
    split = saved["data"]["init_args"]["split"]
    assert split["class_path"].endswith(".StratifiedSplit")
    assert split["init_args"]["train_fraction"] == 0.8
    assert (
        saved["model"]["init_args"]["network"]["init_args"] | {"hidden": [16], "dropout": 0.1}
        == (saved["model"]["init_args"]["network"]["init_args"])
    )


def test_a_forgotten_store_and_a_split_without_its_class_are_named_in_one_line(run: Run) -> None:
    assert run("fit", *QUICK)[::2] == (2, "error: the option --data.store is missing\n")
    status, _, errors = run("test", "--data.store=digits", "--ckpt_path=x.ckpt", "--data.split.trial=1")
    assert status == 2
    nested = ("--data.split=ThresholdSplit", "--data.split.split.trial=x")
    assert run("fit", "--data.store=digits", *nested)[::2] == (
        2,
        'error: --data.split.split.trial: expected a whole number, got "x"\n',
    )
    assert errors.startswith("error: --data.split.trial: name the class first, --data.split CLASS (there are: ")
    assert "TrialSplit" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("place", ["words", "file"])
@pytest.mark.parametrize("written", ["[8, 9]", "[no, yes]", "[on, off]", "[007, 1.0]"])
def test_class_names_that_yaml_takes_for_something_else_are_asked_for_in_quotes(
    run: Run, tmp_path: Path, written: str, place: str
) -> None:
    names = written.strip("[]").split(", ")
    rows = np.random.default_rng(0).normal(size=(90, 4))
    table = pa.table({"id": [str(row) for row in range(90)], "label": [*names, "shoe"] * 30})
    EmbeddingStore.create("named", table, {"e": rows})
    options = ("fit", "--data.store=named", "--data.split.train_fraction=0.5", *QUICK)

    def call(value: str) -> tuple[int, str, str]:
        if place == "words":
            return run(*options, "--data.split.unknown_classes", value)
        split = f"{{class_path: TrialSplit, init_args: {{unknown_classes: {value}}}}}"
        (tmp_path / "mine.yaml").write_text(f"data:\n  init_args:\n    split: {split}\n")
        return run(*options[:2], "--config=mine.yaml", *options[2:])

    status, _, errors = call(written)
    assert status == 2
    said, _, quoted = errors.partition("; names are text, so quote them: ")
    assert said.endswith(f"expected a list (text), got {written}")
    assert errors.count("\n") == 1
    status, _, errors = call(quoted[quoted.index("[") : quoted.index("]") + 1])
    assert status == 0, errors
    checkpoint = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert list(checkpoint["hyper_parameters"]["class_names"]) == ["shoe"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trainer: {\n", "broken.yaml, line 2: this is not YAML"),
        ("- 1\n", "broken.yaml: expected options"),
        ("trainer:\n  max_epochs: many\n", 'broken.yaml, line 2: expected a whole number or null, got "many"'),
        ("trainer:\n  logger: {class_path: CSVLoger}\n", "broken.yaml, line 2: there is no class 'CSVLoger'"),
        (
            "model: {init_args: {scaling: l3}}\n",
            "broken.yaml, line 1: expected one of none, l2, standardize, centered_l2, got 'l3'",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_line(run: Run, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    status, _, errors = run("fit", "--data.store=digits", "--config=broken.yaml")
    assert status == 2
    assert errors.startswith(f"error: {said}")


def test_a_fit_imports_nothing_slow_that_lightning_does_not(tmp_path: Path) -> None:
    blobs_on_disk(tmp_path)  # pyarrow imports pandas where it is installed: nothing to do about that
    code = (
        "import sys, lightning.pytorch; from estitchup_pl.cli import main\n"
        "before, sys.argv = set(sys.modules), ['estitchup']\n"
        f"status = main({['fit', '--data.store=blobs', *QUICK, '--trainer.max_steps=1']})\n"
        "added = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "slow = {'sklearn', 'scipy', 'transformers', 'timm', 'datasets', 'wandb', 'altair', 'jinja2'}\n"
        "print(status, sorted(slow & added))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "0 []"


def test_debug_shows_the_traceback(run: Run) -> None:
    status, _, errors = run("fit", "--data.store=digits", "--trainer.max_epochs=x", "--debug")
    assert status == 2
    assert errors.startswith("Traceback")
    assert errors.splitlines()[-1] == 'error: --trainer.max_epochs: expected a whole number or null, got "x"'


def test_options_that_do_not_go_together_are_no_traceback(run: Run) -> None:
    status, _, errors = run("fit", "--data.store=digits", *QUICK, "--trainer.overfit_batches=-1")
    assert status == 2
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["fti"], "no command 'fti'; did you mean 'fit'?"),
        (
            ["fit", "--trainer.max_epoch=7"],
            "there is no option --trainer.max_epoch; did you mean '--trainer.max_epochs'?",
        ),
        (
            ["fit", "--data.batch_sise=7"],
            "EmbeddingDataModule has no argument 'batch_sise'; did you mean 'batch_size'?",
        ),
        (["fit", "--data.batch_size=seven"], '--data.batch_size: expected a whole number, got "seven"'),
        (
            ["fit", "--data.store=./some.where/v1.2", "--data.modalities=[a.b]", "--data.batch_size=seven"],
            '--data.batch_size: expected a whole number, got "seven"',
        ),
        (["fit", "--data.split=TrialSplt"], "no class 'TrialSplt'; did you mean 'TrialSplit'?"),
        (
            ["fit", "--data.split=TrialSplit", "--data.split.trail=2"],
            "TrialSplit has no argument 'trail'; did you mean 'trial'?",
        ),
        (["fit", "--model.network.hiden=[3]"], "did you mean 'hidden'? (its arguments: hidden, dropout"),
        (["fit", "--config", "missing.yaml"], "missing.yaml"),
        (["fit", "--data.store", "nowhere"], "nowhere"),
        (["fit", "--data.modalities", "[pixel]"], "unknown modality 'pixel'"),
        (
            ["fit", "--data.split=TrialSplit", "--data.split.train_fraction=2"],
            "train_fraction must lie between 0 and 1",
        ),
        (["test", "--trainer.max_epochs=1"], "needs the checkpoint of a fit: --ckpt_path FILE"),
        (["predict", "--ckpt_path", "missing.ckpt"], "missing.ckpt: there is no such checkpoint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_is_explained_without_a_traceback(run: Run, tmp_path: Path, argv: list[str], said: str) -> None:
    known = len(argv) > 1 and not any("data.store" in argument for argument in argv)
    status, _, errors = run(*argv, *(["--data.store", "digits"] if known else []))
    assert status != 0
    assert errors.startswith("error: ")
    assert said in errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--ckpt_path=missing.ckpt --store=digits", "missing.ckpt: there is no such checkpoint"),
        ("--ckpt_path=x.ckpt", "expected items: a table with texts and pictures (--items TABLE)"),
        ("--ckpt_path=x.ckpt --store=x --text=name", "--text belongs to a table with texts and pictures"),
        ("--ckpt_path=x.ckpt --modality title", "--modality: expected NAME=FILE, each name once, got 'title'"),
        ("--ckpt_path=x.ckpt --modality a=x.npy a=y.npy", "each name once, got 'a=y.npy'"),
        ("--ckpt_path=x.ckpt --store=x --since=gone.csv", "gone.csv: there is no such file"),
        ("--ckpt_path=x.ckpt --store=x --level=1", "level: expected a share between 0 and 1, got 1.0"),
        ("--ckpt_path=x.ckpt --store=x --out=d.json", "predictions are written as .parquet or .csv"),
        ("--store=x", "the option --ckpt_path is missing"),
        ("--ckpt_path=x.ckpt --itms=x.csv", "there is no option --itms; did you mean '--items'?"),
    ],
)
def test_a_wrong_call_of_predict_is_explained_in_a_line(run: Run, words: str, said: str) -> None:
    status, _, errors = run("predict", *words.split())
    assert status != 0
    assert errors.startswith("error: ")
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "- class_path: estitchup_pl.callbacks.EStichup",
            "no class 'EStichup' in estitchup_pl.callbacks; did you mean 'EStitchup'?",
        ),
        (
            "- class_path: estitchup_pl.callbacks.EStitchup\n      init_args: {alhpa: 0.2}",
            "mine.yaml, line 4: EStitchup has no argument 'alhpa'; did you mean 'alpha'?",
        ),
        (
            "- class_path: estitchup_pl.callbacks.EStitchup\n      init_args: {alpha: -1}",
            "alpha must be positive, got -1",
        ),
        (
            "- class_path: estitchup_pl.callbacks.LabelSoftening\n    - class_path: estitchup_pl.callbacks.EMixup",
            "put EMixup first",
        ),
    ],
)
def test_a_wrong_callback_in_yaml_is_explained(run: Run, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"trainer:\n  callbacks+:\n    {text}\n")
    status, _, errors = run("fit", "--config", "mine.yaml", "--data.store", "digits", *QUICK)
    assert status != 0
    assert said in errors


def test_a_misspelt_section_in_yaml_is_explained(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("trainr:\n  max_epochs: 3\n")
    status, _, errors = run("fit", "--config", "mine.yaml", "--data.store", "digits")
    assert status == 2
    assert "mine.yaml, line 1: there is no option 'trainr'; did you mean 'trainer'?" in errors


def test_a_checkpoint_of_something_else_is_refused(run: Run, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": {"lr": 1}}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    for name, said in (("other", "not one of an EmbeddingClassifier"), ("text", "cannot be read as a checkpoint")):
        status, _, errors = run("test", "--ckpt_path", f"{name}.ckpt", "--data.store", "digits")
        assert status == 1
        assert f"{name}.ckpt: " in errors
        assert said in errors


def test_a_store_that_does_not_fit_the_checkpoint_is_refused(run: Run, tmp_path: Path) -> None:
    store = blobs_on_disk(tmp_path)
    assert run("fit", "--data.store", store, *QUICK)[0] == 0
    checkpoint = "runs/version_0/checkpoints/last.ckpt"
    status, _, errors = run("test", "--ckpt_path", checkpoint, "--data.store", "digits", *QUIET)
    assert status == 1
    assert "the checkpoint was trained on the modalities ['title', 'image']" in errors
    assert run("predict", "--ckpt_path", checkpoint, "--data.store", store, *QUIET)[0] == 0
    assert pq.read_table("predictions.parquet").num_rows == 10
    status, output, errors = run("predict", "--ckpt_path", checkpoint, "--store", store, "--out", "all.csv")
    assert (status, errors) == (0, "")
    assert output.startswith("2,010 items: 2,010 accepted (100.0%)")
    assert "no threshold has been fitted" in output
    assert "no prediction sets" in output
    status, _, errors = run("predict", "--ckpt_path", checkpoint, "--data.store", store, *QUIET)
    assert status == 2
    assert "predictions.parquet exists" in errors


def test_print_config_shows_every_option(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--data.store", "digits", "--print_config"])
    assert not stop.value.code
    assert "weight_decay: 0.0001" in capfd.readouterr().out
