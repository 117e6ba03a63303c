"""The picture of the first page, of decisions on new products: ``python docs/answer.py SHOP DECISIONS.csv OUT.svg``."""

import csv
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from shop import KINDS, NEVER_SOLD, corners

SHOWN = "shirts", "umbrellas", "sneakers", "mugs", "guitars", "backpacks"
ROW, TOP, WIDTH = 46, 52, 760
BAR = 440, 200  # left end and length, of which one is all
HEADS = (74, "new product"), (310, "decision"), (BAR[0], "how sure; the line is the threshold")
INK, MUTED, YES, ASK = "#1f2933", "#66727f", "#2f6f8f", "#c2571a"


def answer(products: list[dict], decisions: dict[str, dict]) -> str:
    """Draw a row for each product: its picture, its name, what was decided and how sure that is."""
    height = TOP + ROW * len(products) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff" stroke="#d5dbe1"/>',
        *(text(x, 32, words, MUTED, 13) for x, words in HEADS),
    ]
    for number, product in enumerate(products):
        parts += row(TOP + ROW * number, product, decisions[product["id"]])
    return "\n".join([*parts, "</svg>"]) + "\n"


def row(top: int, product: dict, decision: dict) -> list[str]:
    """Draw one product."""
    none, sure = decision["predicted"] == "none", 1 - float(decision["none_score"])
    colour, middle = ASK if none else YES, top + ROW // 2
    threshold = BAR[0] + BAR[1] * float(decision["threshold"])
    looks = {**KINDS, **NEVER_SOLD}[product["kind"]]
    points = " ".join(f"{26 + 0.52 * x:.1f},{top + 7 + 0.52 * y:.1f}" for x, y in corners(looks[2]))
    return [
        f'<line x1="20" x2="{WIDTH - 20}" y1="{top}" y2="{top}" stroke="#e6eaee"/>',
        f'<polygon points="{points}" fill="{product["name"].split()[1]}"/>',
        text(74, middle + 5, product["name"], INK),
        text(310, middle + 5, "none: ask" if none else decision["predicted"], colour, 15, "bold"),
        f'<rect x="{BAR[0]}" y="{middle - 5}" width="{BAR[1]}" height="10" rx="5" fill="#eef1f4"/>',
        f'<rect x="{BAR[0]}" y="{middle - 5}" width="{BAR[1] * sure:.1f}" height="10" rx="5" fill="{colour}"/>',
        f'<line x1="{threshold:.1f}" x2="{threshold:.1f}" y1="{middle - 10}" y2="{middle + 10}" stroke="{INK}"/>',
        text(BAR[0] + BAR[1] + 16, middle + 5, f"{sure:.2f}", INK),
    ]


def text(x: int, y: int, words: str, colour: str, size: int = 15, weight: str = "normal") -> str:
    """Write a line."""
    return f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" font-weight="{weight}">{escape(words)}</text>'


if __name__ == "__main__":
    shop, decided, out = map(Path, sys.argv[1:])
    kinds = [(kind, name) for kind, (names, *_) in {**KINDS, **NEVER_SOLD}.items() for name in names]
    products = list(csv.DictReader((shop / "new.csv").open()))
    for product in products:
        product["kind"] = next(kind for kind, name in kinds if product["name"].endswith(" " + name))
    decisions = {one["id"]: one for one in csv.DictReader(decided.open())}
    shown = {product["kind"]: product for product in products if product["kind"] in SHOWN}
    out.write_text(answer(list(shown.values()), decisions), encoding="utf-8")
