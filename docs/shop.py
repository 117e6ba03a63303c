"""A small shop for the tutorial, dirty as real ones: ``python docs/shop.py FOLDER`` writes a catalogue with pictures.

products.csv   products with the category of most of them: integer ids, gaps, broken pictures, a category of one
new.csv        products that came later, some of kinds that the shop has never sold
answers.csv    the categories that people give to the products without one
images/        the pictures
"""

import csv
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ("red", "navy", "green", "orange", "purple", "teal", "brown", "grey")
BRANDS = ("Alder", "Birch", "Cedar", "Elm")

# category: names, a sentence, and the outline of the picture, two digits a corner
KINDS = {
    "shirts": (
        ("linen shirt", "poplin shirt", "polo"),
        "Long sleeves, buttons at the cuff.",
        "31619295747929240502",
    ),
    "trousers": (("chinos", "cargo trousers", "jeans"), "Straight legs and five pockets.", "2070896953433919"),
    "sneakers": (("running shoes", "sneakers", "trainers"), "A cushioned sole for every day.", "043456979808"),
    "boots": (("leather boots", "hiking boots"), "Waterproof, with a sole that grips.", "205055979929"),
    "backpacks": (("rucksack", "daypack", "backpack"), "Room for a laptop and a bottle.", "306082891912"),
    "mugs": (("coffee mug", "tea cup"), "Holds a third of a litre, stays warm.", "1161638387676919"),
    "lamps": (("desk lamp", "table lamp"), "Warm white light, dimmable.", "30608555587929484515"),
    "watches": (("wrist watch", "chronograph"), "Steel case, runs for two years.", "306062838667693937161332"),
}
NEVER_SOLD = {
    "umbrellas": (("folding umbrella", "umbrella"), "Opens by a button, stands a storm.", "40955559494505"),
    "guitars": (("acoustic guitar", "ukulele"), "Spruce top and nylon strings.", "4050547566885928362544"),
}
SINGLE = {"kayaks": (("sea kayak",), "Two seats and two hatches.", "043363946636")}


def write_shop(folder: Path, each: int = 24) -> None:
    """Write the catalogue of a shop with so many products of each kind, a quarter of them without a category."""
    draw = random.Random(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    kinds = {**KINDS, **SINGLE, **NEVER_SOLD}
    sold = [kind for kind in KINDS for _ in range(each)] + list(SINGLE)
    later = [kind for kind in (*KINDS, *NEVER_SOLD, *NEVER_SOLD) for _ in range(2)]
    draw.shuffle(sold)
    products = [product(1000 + number, kind, kinds[kind], folder, draw) for number, kind in enumerate(sold)]
    new = [product(5000 + number, kind, kinds[kind], folder, draw) for number, kind in enumerate(later)]
    unlabelled = [row for row in products if row["category"] in KINDS][::4]
    answers = [{"id": row["id"], "label": row["category"]} for row in unlabelled]
    for row in unlabelled:
        row["category"] = ""
    damage(products, folder)
    write(folder / "products.csv", products)
    write(folder / "new.csv", [{**row, "category": ""} for row in new])
    write(folder / "answers.csv", answers)


def product(number: int, kind: str, looks: tuple, folder: Path, draw: random.Random) -> dict:
    """Make a row, and draw its picture."""
    names, sentence, outline = looks
    colour = draw.choice(COLOURS)
    shift, size = draw.randrange(8), draw.uniform(0.8, 1.2)
    picture = Image.new("RGB", (80, 80), "white")
    ImageDraw.Draw(picture).polygon([(shift + size * x, shift + size * y) for x, y in corners(outline)], fill=colour)
    picture.save(folder / "images" / f"{number}.jpg")
    name = f"{draw.choice(BRANDS)} {colour} {draw.choice(names)}"
    return {"id": number, "name": name, "description": sentence, "file": f"{number}.jpg", "category": kind}


def corners(outline: str) -> list[tuple[int, int]]:
    """Places of the corners of an outline, in pixels."""
    return [(7 * int(x), 7 * int(y)) for x, y in zip(outline[::2], outline[1::2], strict=True)]


def damage(products: list[dict], folder: Path) -> None:
    """Do to some rows what happens to real catalogues."""
    products[3]["description"] = ""
    products[5]["file"] = "lost.jpg"
    products[8]["file"] = ""
    products[13]["name"], products[13]["description"] = "", ""
    (folder / "images" / products[21]["file"]).write_bytes(b"<html>404 Not Found</html>")


def write(path: Path, rows: list[dict]) -> None:
    """Write rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    write_shop(Path(sys.argv[1]))
