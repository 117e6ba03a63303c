"""``estitchup store``: every source by command line, what is printed, and how wrong calls are answered."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from raw_catalogue import write_fashion

from estitchup_pl.cli.store import main
from estitchup_pl.errors import ConfigError, DataError, StoreError
from estitchup_pl.store import EmbeddingStore, shard_path

ROWS = 12


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Working directory with a table and embeddings in several forms; returns the rows of each modality."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = {"title": rng.normal(size=(ROWS, 3)).astype(np.float32), "image": rng.normal(size=(ROWS, 4))}
    rows["image"][5] = 0
    table = pa.table(
        {
            "id": [f"{row:03d}" for row in range(ROWS)],
            "type": ["hat", "shoe", ""] * 4,
            "fold": ["train", "test"] * 6,
            "photo": [int(row != 5) for row in range(ROWS)],
        }
    )
    pq.write_table(table.append_column("title_vector", pa.array(rows["title"].tolist())), "items.parquet")
    pyarrow.csv.write_csv(table, "items.csv")
    np.save("title.npy", rows["title"])
    np.savez("all.npz", **rows)
    return rows


def _run(call: str, *words: str) -> int:
    return main([*call.split(), *words])


def _check(folder, rows, dtype=np.float32):
    store = EmbeddingStore.open(folder)
    store.verify()
    assert list(store.modalities) == list(rows)
    for name, expected in rows.items():
        np.testing.assert_array_equal(store.gather(range(ROWS), [name]), expected.astype(dtype))
    return store


def test_create_from_arrays_says_what_it_made(sources, capsys):
    call = "create --items items.csv --modality title=title.npy image=all.npz:image --label type --out made"
    assert _run(call, "--encoder", "title=MiniLM L6") == 0
    store = _check("made", sources)
    assert store.column("id").to_pylist()[1] == "001"
    assert store.column("label").to_pylist() == ["hat", "shoe", None] * 4
    assert store.modalities["title"].encoder == "MiniLM L6"
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "store     made",
        "rows      12 (8 labelled, 2 classes)",
        "columns   id, label, type, fold, photo, has_title, has_image",
        "",
        "modality  dim  dtype    missing rows  MiB  encoder",
        "title     3    float32  0             0.0  MiniLM L6",
        "image     4    float32  1             0.0  unknown",
    ]
    assert "24/24" in printed.err


def test_create_from_a_column_of_the_table_itself_leaves_that_column_out(sources):
    call = "create --items items.parquet --modality title=items.parquet:title_vector image=all.npz:image --out made"
    _run(f"{call} --split fold --has image=photo --rows-per-shard 5 --dtype float16")
    store = _check("made", sources, np.float16)
    assert store.column_names == ["id", "label", "split", "has_image", "type", "fold", "photo", "has_title"]
    assert store.column("split").to_pylist() == ["train", "test"] * 6
    assert shard_path(store.path, "title", 2).exists()


def test_create_numbers_rows_and_drops_columns_when_told(sources, capsys):
    call = "create --items items.csv --modality title=title.npy --row-ids --drop id photo --out made --quiet"
    _run(call)
    assert EmbeddingStore.open("made").column("id").to_pylist() == [str(row) for row in range(ROWS)]
    assert capsys.readouterr() == ("", "")


def test_create_from_a_hugging_face_folder(sources, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs the extra estitchup_pl[datasets]")
    rows = sources["title"]
    data = datasets.Dataset.from_dict({"kind": ["a", "b", None] * 4, "vector": rows.tolist()})
    data.save_to_disk(tmp_path / "data")
    _run("create --huggingface data --modality text=vector --label kind --row-ids --out made")
    store = _check("made", {"text": rows})
    assert store.column("label").null_count == 4


def test_class_names_and_splits_of_a_hugging_face_folder_need_no_option(sources, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs the extra estitchup_pl[datasets]")
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=["hat", "shoe"]), "vector": datasets.Sequence(datasets.Value("float32"))}
    )
    columns = {"label": [0, 1, -1] * 4, "vector": sources["title"].tolist()}
    data = datasets.Dataset.from_dict(columns, features=features)
    parts = {"train": data.select(range(6)), "validation": data.select(range(6, 12))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "data")
    for options, out in (((), "default"), (("--label", "label", "--split", "split"), "named")):
        _run("create --huggingface data --modality text=vector --row-ids --quiet", *options, "--out", out)
        store = _check(out, {"text": sources["title"]})
        assert store.column("label").to_pylist() == ["hat", "shoe", None] * 4
        assert store.column("split").to_pylist() == ["train"] * 6 + ["validation"] * 6


def test_create_from_the_raw_fashion_files(sources, tmp_path):
    write_fashion(tmp_path / "fashion")
    np.save("four.npy", np.ones((4, 2), np.float32))
    _run("create --items fashion --modality title=four.npy --label product_type --drop gender year --out made")
    store = EmbeddingStore.open("made")
    assert store.column("label").to_pylist() == ["289", "597", None, "289"]
    assert not {"gender", "year"} & set(store.column_names)


def test_a_column_that_is_there_twice_can_be_dropped(sources):
    Path("items.csv").write_text("id,brand,brand\n" + "".join(f"{row:03d},x,y\n" for row in range(ROWS)))
    call = "create --items items.csv --modality title=title.npy --out made --quiet"
    with pytest.raises(DataError, match=r"items\.csv: column 'brand' is there more than once\. .*drop brand"):
        _run(call)
    _run(call, "--drop", "brand")
    assert _check("made", {"title": sources["title"]}).column_names == ["id", "label", "has_title"]
    columns = [[str(row) for row in range(ROWS)], ["x"] * ROWS, ["y"] * ROWS, sources["title"].tolist()]
    pq.write_table(pa.table(columns, names=["id", "brand", "brand", "v"]), "twice.parquet")
    _run("create --items twice.parquet --modality title=twice.parquet:v --drop brand --dtype float32 --out again")
    assert _check("again", {"title": sources["title"]}).column_names == ["id", "label", "has_title"]


def test_an_empty_list_is_a_missing_embedding(sources):
    rows = sources["title"].copy()
    rows[0] = 0
    table = pa.table({"id": [str(row) for row in range(ROWS)], "v": [[], *rows[1:].tolist()]})
    pq.write_table(table, "empty.parquet")
    _run("create --items empty.parquet --modality title=empty.parquet:v --dtype float32 --out made --quiet")
    assert _check("made", {"title": rows}).column("has_title").to_pylist() == [False] + [True] * (ROWS - 1)


def test_columns_of_whole_files_stay_out_and_bytes_are_no_names(sources):
    cells = [{"bytes": b"x", "path": None}] * ROWS
    table = pa.table({"id": [str(row) for row in range(ROWS)], "cell": cells, "raw": [b"x"] * ROWS, "n": range(ROWS)})
    pq.write_table(table, "pictures.parquet")
    _run("create --items pictures.parquet --modality title=title.npy --out made --quiet")
    assert _check("made", {"title": sources["title"]}).column_names == ["id", "label", "n", "has_title"]
    with pytest.raises(
        DataError, match=r"pictures\.parquet: column 'raw' is of type binary; ids, labels and splits are"
    ):
        _run("create --items pictures.parquet --modality title=title.npy --label raw --out other --quiet")


def test_flags_of_a_csv_file_need_no_option(sources):
    Path("flags.csv").write_text("id,has_image\n" + "".join(f"{row},{row != 5}\n" for row in range(ROWS)))
    _run("create --items flags.csv --modality image=all.npz:image --out made --quiet")
    assert _check("made", {"image": sources["image"]}).column("has_image").to_pylist() == [
        row != 5 for row in range(ROWS)
    ]


def test_other_delimiters_and_encodings(sources):
    Path("items.csv").write_bytes(("id;kind\n" + "".join(f"{row};Hüte\n" for row in range(ROWS))).encode("cp1252"))
    call = "create --items items.csv --modality title=title.npy --label kind --out made --quiet --delimiter ;"
    with pytest.raises(DataError, match=r"items\.csv, line 2: not text in utf-8\. .* set encoding"):
        _run(call)
    _run(call, "--encoding", "cp1252")
    assert set(EmbeddingStore.open("made").column("label").to_pylist()) == {"Hüte"}


def test_create_from_a_clip_retrieval_folder(sources, tmp_path):
    for folder in ("img_emb", "metadata"):
        (tmp_path / "clip" / folder).mkdir(parents=True)
    for number, rows in enumerate(np.split(sources["title"], 3)):
        np.save(tmp_path / "clip" / "img_emb" / f"img_emb_{number}.npy", rows)
        keys = [f"{number}{row}" for row in range(len(rows))]
        pq.write_table(pa.table({"key": keys}), tmp_path / "clip" / "metadata" / f"metadata_{number}.parquet")
    _run("create --clip-retrieval clip --id key --out made")
    _check("made", {"image": sources["title"]})


def test_info_prints_json(sources, capsys):
    _run("create --items items.csv --modality title=title.npy --label type --out made --quiet")
    _run("info made --json")
    summary = json.loads(capsys.readouterr().out)
    assert summary["modalities"]["title"] == {
        "dim": 3,
        "dtype": "float32",
        "encoder": None,
        "pooling": None,
        "revision": None,
        "recipe": None,
        "missing": 0,
        "bytes": 128 + ROWS * 3 * 4,
    }
    assert {key: summary[key] for key in ("path", "rows", "labelled", "classes")} == {
        "path": "made",
        "rows": 12,
        "labelled": 8,
        "classes": 2,
    }


def test_verify_says_whole_or_names_the_defect(sources, capsys):
    _run("create --items items.csv --modality title=title.npy --out made --quiet")
    assert _run("verify made --quiet") == 0
    assert capsys.readouterr() == ("made: whole (12 rows, title)\n", "")
    path = shard_path(EmbeddingStore.open("made").path, "title", 0)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(StoreError, match=r"title/00000\.npy: truncated"):
        _run("verify made --quiet")


def test_overwriting_has_to_be_asked_for(sources):
    call = "create --items items.csv --modality title=title.npy --out made --quiet"
    _run(call)
    with pytest.raises(StoreError, match=r"made holds a store already.*--overwrite"):
        _run(call)
    _run(call, "--overwrite")
    _check("made", {"title": sources["title"]})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("creat", r"there is no command 'store creat'; did you mean 'create'\?$"),
        ("create --item items.csv --out made", "there is no option --item; did you mean '--items'"),
        ("create --items items.csv --modalty a=b --out made", "no option --modalty; did you mean '--modality'"),
        ("create --items items.csv --over --out made", "there is no option --over"),
        ("create --items items.csv --out made", "expected at least one --modality NAME=FILE"),
        (
            "create --items items.csv --modality title.npy --out made",
            "--modality: expected NAME=VALUE, got 'title.npy'",
        ),
        ("create --items items.csv --modality a=b.npy a=c.npy --out made", "--modality: 'a' is there twice"),
        ("create --modality a=title.npy --out made", "one of the arguments --items --huggingface --clip-retrieval"),
        ("create --items items.csv --huggingface data --out made", "not allowed with argument"),
        ("create --clip-retrieval clip --modality a=b.npy --out made", "--clip-retrieval takes no --modality"),
        ("create --items items.csv --modality a=title.npy", "the option --out is missing"),
        (
            "create --items items.csv --modality a=title.npy --out made --dtype int8",
            "--dtype: expected one of float16, float32, got 'int8'",
        ),
        (
            "create --items items.csv --modality title=title.npy --encoder titel=x --out made",
            "--encoder: there is no modality 'titel'; did you mean 'title'",
        ),
        (
            "create --items items.csv --modality title=title.npy --has image=photo --out made",
            "--has: there is no modality 'image'",
        ),
        (
            "create --items items.csv --modality title=title.npy --label typ --out made",
            r"label: items\.csv has no column 'typ'; did you mean 'type'",
        ),
        ("create --items item.csv --modality title=title.npy --out made", "there is no file or folder item.csv"),
        ("create --items items.csv --modality title=title.npy --drop tipe --out made", "did you mean 'type'"),
        ("info", "DIR is missing: folder of the store"),
        ("verify made --json", "there is no option --json"),
    ],
)
def test_wrong_calls_are_explained_and_write_nothing(sources, tmp_path, call, message):
    with pytest.raises(ConfigError, match=message):
        _run(call)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: np.save("title.npy", np.ones((11, 3))), r"title\.npy: 11 rows of embeddings for a table of 12 items"),
        (lambda: np.save("title.npy", np.ones((12, 3), int)), r"title\.npy: expected floating-point .* int64"),
        (lambda: np.save("title.npy", np.ones(12)), r"title\.npy: expected an array of shape \(rows, dim\)"),
        (
            lambda: np.save("title.npy", np.ones((12, 3), "V2")),
            r"title\.npy: .* of type \|V2, which is how bfloat16 comes out of an NPY file\. Convert them",
        ),
        (
            lambda: np.save("title.npy", np.where(np.eye(12)[:, :3] + 1 == 2, np.nan, 1)),
            r"title\.npy, row 0, column 0: expected finite numbers, got nan",
        ),
        (lambda: Path("title.npy").write_bytes(b"\x93NUMPY"), r"title\.npy: not an NPY file, or truncated"),
        (
            lambda: pyarrow.csv.write_csv(pa.table({"id": [1, 1] * 6, "type": ["a"] * 12}), "items.csv"),
            r"items\.csv: id '1' is there twice, in rows 0 and 1",
        ),
        (
            lambda: pyarrow.csv.write_csv(pa.table({"id": [], "type": []}), "items.csv"),
            r"items\.csv: the table has no rows",
        ),
    ],
)
def test_bad_input_is_named_by_file_and_row_and_writes_nothing(sources, tmp_path, change, message):
    change()
    with pytest.raises(DataError, match=message):
        _run("create --items items.csv --modality title=title.npy --label type --out made --quiet")
    assert not (tmp_path / "made").exists()


def test_a_full_disk_is_named_and_nothing_is_left(sources, tmp_path):
    np.save("big.npy", np.ones((ROWS, 200_000), np.float32))
    script = """
        import resource, sys
        from estitchup_pl.cli import main
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        sys.exit(main("store create --items items.csv --modality a=big.npy --out made --quiet".split()))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: made/.unfinished/embeddings/a/00000.npy: cannot be written (File too large)")
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "made").exists()


def test_the_command_alone_lists_its_commands_and_needs_no_torch(capsys):
    assert main([]) == 0
    assert "create" in capsys.readouterr().out
    check = (
        "import sys, estitchup_pl.cli.store; print({'torch', 'lightning', 'datasets', 'sklearn'} & sys.modules.keys())"
    )
    assert subprocess.check_output([sys.executable, "-c", check], text=True) == "set()\n"


def test_the_real_fashion_data_becomes_a_store(fashion_dir, tmp_path, capsys):
    _run(
        "create --label product_type --quiet --rows-per-shard 20000",
        *("--items", f"{fashion_dir}/items.parquet"),
        *("--modality", f"title={fashion_dir}/title.npy", f"image={fashion_dir}/image.npy"),
        *("--out", str(tmp_path / "fashion")),
    )
    main(["verify", str(tmp_path / "fashion"), "--quiet"])
    main(["info", str(tmp_path / "fashion"), "--json"])
    summary = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert (summary["rows"], summary["labelled"], summary["classes"]) == (44_441, 44_441, 171)
    assert [facts["missing"] for facts in summary["modalities"].values()] == [0, 369]
    store = EmbeddingStore.open(tmp_path / "fashion")
    rows = np.random.default_rng(0).integers(0, len(store), 500)
    expected = [np.load(fashion_dir / f"{name}.npy", mmap_mode="r")[rows] for name in ("image", "title")]
    np.testing.assert_array_equal(store.gather(rows, ["image", "title"]), np.concatenate(expected, axis=1))
