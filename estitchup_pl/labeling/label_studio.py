"""Label Studio: tasks with predictions for its import, the labelling interface, and what its export says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from estitchup_pl.errors import DataError
from estitchup_pl.labeling.answers import Answer

CHOICE: Final = "label"
"""Name of the control whose choice is the class."""

NEW_CLASS: Final = "new_class"
"""Name of the text field for a class that is not there yet."""


def tasks(items: Sequence[Mapping[str, Any]], shown: str, model_version: str) -> list[dict[str, Any]]:
    """Make the tasks of an import file, each with the model's prediction.

    Args:
        items: Rows of a queue: ``id``, ``likely``, ``confidence`` and the columns to show.
        shown: Column that the interface shows first; its choices refer to it.
        model_version: What the predictions are called.

    Returns:
        What to write as JSON; the data of a task are the item's columns.
    """
    return [
        {
            "data": {name: value for name, value in item.items() if value is not None},
            "predictions": [
                {
                    "model_version": model_version,
                    "score": item["confidence"],
                    "result": [_choice(str(item["likely"]), shown)],
                }
            ],
        }
        for item in items
    ]


def labeling_interface(class_names: Sequence[str], texts: Sequence[str], images: Sequence[str] = ()) -> str:
    """Write the labelling interface (XML) that the tasks fit: what is shown, the classes, and a field for a new one.

    Args:
        class_names: The classes to choose from.
        texts: Columns that are shown as text.
        images: Columns that hold addresses of pictures.

    Example:
        >>> print(labeling_interface(["hat"], ["title"]))  # doctest: +ELLIPSIS
        <View>
          <Text name="title" value="$title"/>
          <Choices name="label" toName="title" choice="single" ...>
            <Choice value="hat"/>
          </Choices>
          <TextArea name="new_class" toName="title" maxSubmissions="1" ...
        </View>
    """
    shown = [*texts, *images]
    lines = [f"  <Text name={quoteattr(name)} value={quoteattr('$' + name)}/>" for name in texts]
    lines += [f"  <Image name={quoteattr(name)} value={quoteattr('$' + name)}/>" for name in images]
    target = quoteattr(shown[0])
    lines += [f'  <Choices name="{CHOICE}" toName={target} choice="single" showInLine="true">']
    lines += [f"    <Choice value={quoteattr(name)}/>" for name in class_names]
    lines += ["  </Choices>"]
    lines += [f'  <TextArea name="{NEW_CLASS}" toName={target} maxSubmissions="1" placeholder="a class not listed"/>']
    return "\n".join(["<View>", *lines, "</View>"])


def read_export(path: Path, id_field: str = "id") -> Iterator[Answer]:
    """Read the answers of an export, in its JSON or its JSON-MIN format.

    Args:
        path: The file.
        id_field: Entry of a task's data that names the item.

    Returns:
        Iterator of an answer for each annotation; without a label for a task that nobody has answered, that was
        skipped, or whose annotation chose nothing.

    Raises:
        DataError: If it is no such file, naming the task.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a JSON export of Label Studio ({error})") from error
    if not isinstance(found, list):
        raise DataError(f"{path}: expected the list of tasks that Label Studio exports as JSON, got {type(found)}")
    for number, task in enumerate(found):
        try:
            yield from _answers(task, id_field)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, task {number}: not as Label Studio exports tasks as JSON or JSON-MIN ({error!r}); its data "
                f"must name the item as {id_field!r}"
            ) from error


def _answers(task: Mapping[str, Any], id_field: str) -> Iterator[Answer]:
    if "data" not in task:  # JSON-MIN: one flat entry for each annotation
        yield Answer(str(task[id_field]), _text(task.get(NEW_CLASS)) or _text(task.get(CHOICE)))
        return
    name, annotations = str(task["data"][id_field]), task.get("annotations", [])
    if not annotations:
        yield Answer(name, None)
    for annotation in annotations:
        label = None if annotation.get("was_cancelled") else _label(annotation["result"])
        yield Answer(name, label)


def _label(results: Sequence[Mapping[str, Any]]) -> str | None:
    """The class that an annotation chose, or that it wrote down as a new one."""
    values = {result["from_name"]: result["value"] for result in results}
    new = _text(values[NEW_CLASS]["text"]) if NEW_CLASS in values else None
    return new or (_text(values[CHOICE]["choices"]) if CHOICE in values else None)


def _text(value: object) -> str | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return str(value).strip() or None if value is not None else None


def _choice(label: str, shown: str) -> dict[str, Any]:
    return {"from_name": CHOICE, "to_name": shown, "type": "choices", "value": {"choices": [label]}}
