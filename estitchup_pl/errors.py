"""The one tree of errors that this package raises on purpose.

Every message says what was expected, what came (file, row, option) and what to do. The command line prints
such a message alone, without a traceback.
"""

import difflib
from collections.abc import Iterable


class EstitchupError(Exception):
    """Base of all errors raised on purpose by this package."""


class DataError(EstitchupError, ValueError):
    """Embeddings, labels or tables that cannot be used as they are."""


class StoreError(DataError):
    """A store on disk, or the input for one, that is broken or does not fit together."""


class SplitError(DataError):
    """A split that leaves nothing to train, validate, test or predict on."""


class ConfigError(EstitchupError, ValueError):
    """An option, class name or combination of callbacks that cannot work."""


class CheckpointError(EstitchupError, ValueError):
    """A checkpoint that is not ours, or does not fit the data it is used with."""


class WriteError(EstitchupError):
    """A place that cannot be written to: its disk is full or read-only, or another command is writing there."""


class DivergedError(EstitchupError, ArithmeticError):
    """A fit whose loss is no longer finite."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message that offers the nearest known name, or nothing where none is near.

    Example:
        >>> did_you_mean("EStichup", ["EMixup", "EStitchup"])
        "; did you mean 'EStitchup'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
