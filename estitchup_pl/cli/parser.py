"""The one parser of the commands: no abbreviations, and a :class:`ConfigError` in words where others exit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from typing_extensions import override

from estitchup_pl.errors import ConfigError, EstitchupError


class CommandParser(ArgumentParser):
    """Parser of a command's options, from the command line and from YAML files."""

    def __init__(self, *args: Any, allow_abbrev: bool = False, **options: Any) -> None:
        super().__init__(*args, allow_abbrev=allow_abbrev, **options)

    @override
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(message) from ex

    def parse_call(self, words: Sequence[str]) -> Namespace:
        """Parse the words after a command.

        Raises:
            ConfigError: If they are no call of the command, saying what is wrong in one sentence.
        """
        with explained(self, words):
            return self.parse_args(list(words))

    def build(self, options: Namespace) -> dict[str, Any]:
        """Make the objects that the options describe.

        Raises:
            EstitchupError: What one of their classes says about its arguments.
        """
        with explained():
            arguments: dict[str, Any] = self.instantiate(options).as_dict()
        arguments.pop("config", None)
        return arguments


@contextmanager
def explained(parser: ArgumentParser | None = None, words: Sequence[str] = ()) -> Iterator[None]:
    """Turn what libraries raise about options into a :class:`ConfigError`; an error of ours comes out as it is."""
    try:
        yield
    except (ValueError, TypeError, ImportError, RecursionError) as error:  # what classes say to their arguments
        ours = _our_error_within(error)
        if ours is not None and (parser is None or not isinstance(ours, ConfigError)):
            raise ours from None
        from estitchup_pl.cli.explain import explain  # only what goes wrong needs it

        raise ConfigError((parser and explain(parser, words)) or str(error)) from error


def _our_error_within(error: BaseException | None) -> EstitchupError | None:
    while error is not None and not isinstance(error, EstitchupError):
        error = error.__cause__ or error.__context__
    return error
