"""Reads Arrow files to their end and checks every value; a program of its own, which a damaged file may take down.

It imports nothing but pyarrow. Paths come on its input, one a line; what is wrong with the first bad one goes to its
output.
"""

from __future__ import annotations

import sys

import pyarrow as pa


def check(path: str) -> None:
    """Read one stream of record batches; raises whatever pyarrow does, or ends the process."""
    with pa.OSFile(path) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            batch.validate(full=True)
            for column in batch.columns:
                if pa.types.is_dictionary(column.type):
                    column.dictionary.validate(full=True)


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            check(line.rstrip("\n"))
        except Exception as error:  # whatever the bytes lead to
            sys.exit(f"{line.rstrip()}: {type(error).__name__}: {error}")
