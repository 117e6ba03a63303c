"""Import of the libraries that only an extra installs."""

from __future__ import annotations

import importlib
from types import ModuleType

from estitchup_pl.errors import ConfigError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import ``module``, when it is first needed.

    Raises:
        ConfigError: If it is not installed, naming the extra that installs it.

    Example:
        >>> require("json", "embed", "reading JSON").__name__
        'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{purpose} needs the package {module.partition('.')[0]!r}, which cannot be imported ({error}). "
            f"Install it, in a clone of the repository, with: pip install '.[{extra}]'"
        ) from error
