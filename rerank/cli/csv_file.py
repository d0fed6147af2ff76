"""The same as a table for other programs: `--csv FILE`."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank.errors import OutputError
from rerank.files import check_place, write_bytes


def check_csv(path: Path | None, overwrite: bool) -> None:
    """Refuse, before any work, a file that cannot be written, or is there and may not be replaced.

    Raises:
        OutputError: saying which of these.
    """
    if path is None:
        return
    check_place(path)
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} is there already; choose another file, or --overwrite")


def write_csv(path: Path | None, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records of the same columns; what is None is an empty cell. Nothing for a path that is None.

    Raises:
        OutputError: it cannot be written.
    """
    if path is None:
        return
    text = io.StringIO(newline="")
    columns = list(dict.fromkeys(column for record in records for column in record))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    # a file name that is not UTF-8 arrives as lone surrogates, and leaves as the bytes it was
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))
