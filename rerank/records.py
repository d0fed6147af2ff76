"""Reading CSV, JSON lines and plain lines, with the place of each record for what is wrong with it."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank.errors import InvalidInput, UnknownName, one_line
from rerank.files import open_file

MAX_BYTES = 64 * 2**20
"""Of a file."""

MAX_ROWS = 10_000
"""Of a file."""


@dataclass(frozen=True)
class Row:
    """What one line says, or one record of several lines.

    Attributes:
        place: file and line, for messages.
        values: by column, without those that are not given.
    """

    place: str
    values: Mapping[str, str]

    def wrong(self, message: str) -> InvalidInput:
        """Return the error that says what is wrong with it, and where it stands."""
        return InvalidInput(f"{self.place}: {message}")


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Return the records of a `.csv` file with a header, or of a file with a JSON object on each line.

    Values are texts; those that are empty, or null, are not given.

    Args:
        path: of the file, in UTF-8.
        columns: that it may have.

    Raises:
        InvalidInput: the file cannot be read, is too large or holds no record; a line is empty, or not as it should be.
        UnknownName: it has another column.
    """
    read = _csv_rows if path.suffix.lower() == ".csv" else _json_rows
    rows = [
        Row(row.place, {column: value for column, value in row.values.items() if value.strip()})
        for row in read(path, columns)
    ]
    if not rows:
        raise InvalidInput(f"{path} holds no line below its header")
    if len(rows) > MAX_ROWS:
        raise _too_many(path, len(rows))
    return rows


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Return each line of a text file in UTF-8, with its place.

    Raises:
        InvalidInput: the file cannot be read or is too large, or a line is empty.
    """
    # not by splitlines, which takes more characters for the end of a line
    lines = _text(path).replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    if len(lines) > MAX_ROWS:
        raise _too_many(path, len(lines))
    placed = [(f"{path}:{number}", line) for number, line in enumerate(lines, start=1)]
    for place, line in placed:
        if not line.strip():
            raise _empty(place)
    return placed


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    header: list[str] = []
    line = 1  # a record may stand on several lines, and is named by its first
    try:
        for cells in reader:
            place, line = f"{path}:{line}", reader.line_num + 1
            if not cells:
                raise _empty(place)
            if not header:
                header = cells
                if len(cells) == 1 and re.search("[;\t]", cells[0]):
                    raise InvalidInput(f"{place}: expected columns with commas between them, got {cells[0]!r:.60}")
                _check_columns(place, header, columns)
                continue
            if len(cells) != len(header):
                raise InvalidInput(
                    f"{place}: expected {len(header)} cells ({','.join(header)}), got {len(cells)}; put a cell that "
                    'holds a comma in double quotes: "a, b"'
                )
            yield Row(place, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise InvalidInput(f"{path}:{line}: this is no CSV ({error}); check the double quotes") from error


def _json_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        if twice:
            raise InvalidInput(f"{twice[0]!r} is given twice")
        return dict(pairs)

    for place, line in read_lines(path):
        try:
            record = json.loads(line, object_pairs_hook=once)
        except InvalidInput as error:
            raise InvalidInput(f"{place}: {error}") from error
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or one_line(error)
            raise InvalidInput(f"{place}: this is no JSON ({reason}); write one object on each line") from error
        if not isinstance(record, dict):
            raise InvalidInput(f'{place}: expected a JSON object, such as {{"{columns[0]}": "..."}}; got {line:.40}')
        _check_columns(place, list(record), columns)
        for column, value in record.items():
            if value is not None and not isinstance(value, str):
                raise InvalidInput(f"{place}: {column} must be a text in double quotes, got {json.dumps(value):.40}")
        yield Row(place, {column: value for column, value in record.items() if value is not None})


def _check_columns(place: str, given: Sequence[str], known: Sequence[str]) -> None:
    for column in given:
        if column not in known:
            raise UnknownName(f"{place}: {UnknownName.among('column', column, known)}")
        if given.count(column) > 1:
            raise InvalidInput(f"{place}: the column {column!r} is there twice; remove one")


def _text(path: Path) -> str:
    try:
        with open_file(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InvalidInput(f"{path} is larger than {MAX_BYTES // 2**20} MiB; split it")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}:{line}: this is not UTF-8 text; save the file as UTF-8") from error
    except InvalidInput:
        raise
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise InvalidInput(f"cannot read {path}: {reason}") from error
    if not text:
        raise InvalidInput(f"{path} is empty")
    return text


def _empty(place: str) -> InvalidInput:
    return InvalidInput(f"{place}: the line is empty; remove it")


def _too_many(path: Path, count: int) -> InvalidInput:
    return InvalidInput(f"{path} has {count} lines, the limit is {MAX_ROWS}; split it")
