"""A ranking as one HTML page that can be kept and sent: it holds all that it shows and plays, and asks nobody for more."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rerank.errors import OutputError
from rerank.files import as_path, write_bytes
from rerank.protocols import Progress
from rerank.run_folder import to_json

if TYPE_CHECKING:
    from rerank.ranking import Ranking

NAME = "report.html"
"""Of the page in the folder of its run."""

_MARK = b'<meta name="generator" content="rerank report">'
_HEAD = 4_096  # bytes in which what a page says of itself stands


def write_report(
    ranking: "Ranking",
    path: str | Path,
    *,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Write a ranking to a page, and return the path of that.

    The page holds small copies of the best takes: as good and as many as fit into 6 MB. It is the same to the byte for
    the same ranking in the same folder. A page that is there is replaced.

    Args:
        ranking: also of a run that is not done, or whose files are gone.
        path: of the page; what it says of files is as seen from its folder.
        overwrite: whether a file that is no such page is replaced.
        on_progress: told how many takes are read.

    Raises:
        InvalidInput: `path` is no path.
        OutputError: another file is there, or it cannot be written.
    """
    place = as_path("path", path)
    if place.is_dir():
        raise OutputError(f"cannot write {place}: it is a folder; name a file in it, such as {place / NAME}")
    if place.exists() and not overwrite and not is_report(place):
        raise OutputError(
            f"{place} is there already, and is no report; choose another name, or --overwrite it "
            "(in Python: overwrite=True)"
        )
    from rerank.report.page import page_of

    def tell(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(Progress("reporting", done, total))

    page = page_of(ranking, place.parent, _digest(ranking, place.parent), tell)
    write_bytes(place, page.encode("utf-8"))
    return place


def is_report(path: Path) -> bool:
    """Return whether a file is a page that `write_report` wrote."""
    return _MARK in _head(path)


def is_stale(ranking: "Ranking", path: Path) -> bool:
    """Return whether a file is a page of something else than this ranking; not so where it is none."""
    return is_report(path) and f'content="{_digest(ranking, path.parent)}"'.encode() not in _head(path)


def _digest(ranking: "Ranking", folder: Path) -> str:
    return hashlib.sha256(to_json(ranking.to_dict(folder)).encode()).hexdigest()


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():  # opening a pipe would wait for somebody to write
            return b""
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""
