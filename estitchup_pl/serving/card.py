"""A model card: what the classifier knows, how it decides, how it was measured, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from estitchup_pl import __version__
from estitchup_pl.model.classifier import EmbeddingClassifier

_SHOWN_CLASSES: Final = 200


def model_card(model: EmbeddingClassifier, metrics: Mapping[str, float]) -> str:
    """Write the model card of a fitted classifier in Markdown.

    Args:
        model: The classifier.
        metrics: Figures by name; they are put in as they are.
    """
    names = model.class_names
    shown = ", ".join(_code(name) for name in names[:_SHOWN_CLASSES]) + (", …" if len(names) > _SHOWN_CLASSES else "")
    modalities = "\n".join(f"- {_code(name)}: {dim} columns" for name, dim in model.modalities.items())
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics.items())
    measured = f"| metric | value |\n| --- | --- |\n{figures}" if metrics else "No figures were given with this model."
    return f"""\
---
library_name: estitchup_pl
tags: [embeddings, classification, calibration, out-of-distribution]
---

# A classifier on precomputed embeddings that says "none"

{len(names)} classes: {shown}

It takes embeddings that frozen encoders have made, one array for each modality:

{modalities}

```python
from estitchup_pl.serving import from_pretrained

model = from_pretrained("THIS_FOLDER_OR_REPOSITORY")
model.predict({{{", ".join(f"{name!r}: ..." for name in model.modalities)}}})
```

## How it decides

{_decision(model)}

## Measured

{measured}

## Limits

- It knows the classes above and the encoders it was trained with. Embeddings of another encoder, even of the same
  width, give answers that mean nothing.
- Confidence is calibrated for items like those that it was measured on.
- "none" means unlike the known classes, not wrong or harmful.

Written by estitchup_pl {__version__}.
"""


def _decision(model: EmbeddingClassifier) -> str:
    decision = model.decision
    calibrator = type(decision.calibrator).__name__ if decision.calibrator else "none"
    score = type(decision.score).__name__ if decision.score else "one minus the greatest probability"
    lines = [f"- calibration: {calibrator}", f'- score of "none": {score}']
    if not decision.has_threshold:
        return "\n".join([*lines, "- no threshold was fitted: every item is accepted"])
    lines.append(f"- an item is accepted if one minus that score is above {decision.threshold:.4f}")
    if basis := decision.basis:
        lines.append(
            f'- the threshold rests on {basis.none_rows} "none" rows and {basis.known_rows} of known classes; 95 % '
            f"interval {basis.low:.3f} to {basis.high:.3f}"
        )
    return "\n".join(lines)


def _code(name: str) -> str:
    return "`" + name.replace("`", "'").replace("\n", " ") + "`"
