"""What only the extra ``report`` installs: figures and the page need it, tables do not."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

PACKAGES: Final = {"altair": "altair", "jinja2": "jinja2", "vl_convert": "vl-convert-python"}
"""Packages of the extra ``report`` by the name of their module."""


def missing_libraries() -> str:
    """Say which packages of the extra ``report`` are missing and what is left out for that; empty where none is.

    Nothing is imported, so a command can ask before it begins.
    """
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if not missing:
        return ""
    return (
        f"figures/*.png and report.html are left out, since {' and '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} not installed; tables.md and tables.json are written. "
        "For all of it, in a clone of the repository: pip install '.[report]'"
    )
