"""What a catalogue is before it is embedded: pictures, the Kaggle folder, and small encoders with random weights."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def picture(seed: int = 0, size: tuple[int, int] = (50, 70), mode: str = "RGB", form: str = "PNG") -> bytes:
    """Bytes of an image file."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise, "RGBA").convert(mode).save(file, form)
    return file.getvalue()


def write_fashion(root: Path) -> Path:
    """A folder with the quirks of the Kaggle data set."""
    (root / "images").mkdir(parents=True)
    (root / "styles").mkdir()
    header = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
    lines = [
        "15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Men Navy Blue Shirt",
        "39386,Men,Apparel,Bottomwear,Jeans,Blue,Summer,2012,Casual,Peter England, Men Party, Blue Jeans",
        "7,Women,Accessories,Watches,Watches,,Winter,2016,,Titan Women Silver Watch",
        "8,Women,Accessories,Bags,Bags,Red,Winter,2016,Casual,",
    ]
    (root / "styles.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    products = {
        "15970": {"productTypeId": 289, "productDescriptors": {"description": {"value": "<p>Blue &amp; white</p>"}}},
        "39386": {"productTypeId": 597, "productDescriptors": {"style_note": {"value": "<p>Wear it</p>"}}},
        "8": {"productTypeId": 289, "productDisplayName": "Baggit Red Bag", "productDescriptors": {}},
    }
    for name, data in products.items():
        answer = {"notification": {}, "meta": {"code": 200}, "data": {"id": int(name), **data}}
        (root / "styles" / f"{name}.json").write_text(json.dumps(answer))
    for name in ("15970", "7", "8"):
        (root / "images" / f"{name}.jpg").write_bytes(picture(int(name), form="JPEG"))
    return root


def word_pieces(folder: Path) -> transformers.PreTrainedTokenizerBase:
    """A BERT tokenizer that knows the letters."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *("##" + letter for letter in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    return transformers.BertTokenizer(str(folder / "vocab.txt"))


SMALL = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
VOCABULARY = {"vocab_size": 57, "pad_token_id": 0}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SMALL, **VOCABULARY),
    "roberta": lambda: transformers.RobertaConfig(**SMALL, **VOCABULARY, max_position_embeddings=40),
    "distilbert": lambda: transformers.DistilBertConfig(dim=12, n_layers=3, n_heads=2, hidden_dim=16, **VOCABULARY),
    "xlnet": lambda: transformers.XLNetConfig(d_model=12, n_layer=3, n_head=2, d_inner=16, **VOCABULARY),
    "t5": lambda: transformers.T5Config(
        d_model=12, d_kv=6, num_layers=3, num_heads=2, d_ff=16, decoder_start_token_id=0, **VOCABULARY
    ),
}


def save_model(folder: Path, name: str = "bert", **tokenizer_options: object) -> str:
    """Save a small model with random weights and its tokenizer; XLNet's pads on the left."""
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    model = transformers.AutoModel.from_config(CONFIGS[name]())
    model.save_pretrained(folder)
    tokenizer = word_pieces(folder)
    tokenizer.padding_side = "left" if name == "xlnet" else "right"
    for option, value in tokenizer_options.items():
        setattr(tokenizer, option, value)
    tokenizer.save_pretrained(folder)
    return str(folder)
