"""Names that installed packages add by the entry points `rerank.generators` and `rerank.rewards`.

The text of an entry point names a factory, as in `rerank.catalogue`. The environment variable `RERANK_PLUGINS` limits which
packages may add names: a list of distribution names with commas or spaces between them, and the empty text for none.
"""

import functools
import importlib.metadata
import logging
import os
import re
from typing import get_args

from rerank.names.entry import Entry, Kind

logger = logging.getLogger("rerank")


def installed(kind: Kind) -> list[Entry]:
    """Return what installed packages add, as far as `RERANK_PLUGINS` lets them; imports none of them."""
    allowed = _allowed()
    found = []
    for point in importlib.metadata.entry_points(group=f"rerank.{kind}s"):
        package = point.dist.name if point.dist else "an unknown package"
        version = point.dist.version if point.dist else "unknown"
        if allowed is None or _normalised(package) in allowed:
            found.append(Entry(kind=kind, name=point.name, target=point.value, package=package, version=version))
    return found


def _allowed() -> set[str] | None:
    """Return the packages that may add names; None for all."""
    listed = os.environ.get("RERANK_PLUGINS")
    if listed is None:
        return None
    names = {_normalised(name): name for name in re.split(r"[,\s]+", listed) if name}
    points = [point for kind in get_args(Kind) for point in importlib.metadata.entry_points(group=f"rerank.{kind}s")]
    known = {_normalised(point.dist.name): point.dist.name for point in points if point.dist}
    for name in names.keys() - known.keys():
        told = ", ".join(sorted(known.values())) or "none"
        _warn_once(
            f"RERANK_PLUGINS names {names[name]!r}, and no such package with plugins is installed; there is: {told}"
        )
    return set(names)


@functools.cache
def _warn_once(told: str) -> None:
    """Say it once in this process: names are looked up many times."""
    logger.warning(told)


def _normalised(package: str) -> str:
    """Return the name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", package).lower()
