"""Sphinx: MyST Markdown pages, and the API pages from the docstrings."""

from importlib.metadata import version as installed_version
from typing import Any, NamedTuple

project = "estitchup_pl"
author = "The estitchup_pl maintainers"
copyright = f"2026, {author}"
version = release = installed_version("estitchup_pl")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
toc_object_entries = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "estitchup_pl"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {"navigation_with_keys": True}


class _Pair(NamedTuple):
    field: int


_NAMED_TUPLE_FIELD = type(_Pair.field)


def skip_named_tuple_fields(app: Any, what: str, name: str, obj: object, skip: bool, options: Any) -> bool | None:
    """The class's docstring says what each field is; "alias for field number 0" beside it says nothing."""
    return True if isinstance(obj, _NAMED_TUPLE_FIELD) else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", skip_named_tuple_fields)
