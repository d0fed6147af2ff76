"""What "auto" stands for: a generator that this machine can run, and a reward model that knows the music it is to judge."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from rerank.catalogue import BUILT_IN
from rerank.errors import RerankError
from rerank.names.entry import Download, Entry
from rerank.protocols import RewardInfo

logger = logging.getLogger("rerank")

PUBLISHED, SMALL = "cmi-rm", "cmi-mini"
"""The reward models to choose from: one that knows real recordings, and one that needs no download."""


@dataclass(frozen=True)
class _Preference:
    """A choice of generator."""

    name: str
    needs_gpu: bool
    why: str


_GENERATORS = (
    _Preference("musicgen-small", needs_gpu=True, why="trained on real music; this machine has a GPU for it"),
    _Preference("synth", needs_gpu=False, why="built in, needs no download and no GPU"),
)
"""The first that this machine can run is taken, best first."""

_MAKERS = {entry.name for entry in BUILT_IN if entry.kind == "generator"}


def generator(known: Mapping[str, Entry]) -> str:
    """Return the name of the best generator that this machine can run, and say in the log which and why.

    Args:
        known: all generators by name.

    Raises:
        RerankError: it can run none.
    """
    for preference in _GENERATORS:
        if preference.needs_gpu and not _has_gpu():
            continue
        download = known[preference.name].download
        if download and not download.is_cached():
            if download.is_offline():
                logger.info("generator %s: passed over, it is not here and the hub is offline", preference.name)
                continue
            _say_download("generator", preference.name, download)
        logger.info("generator %s: %s", preference.name, preference.why)
        return preference.name
    raise RerankError(f"this machine can run no generator on its own; name one: {', '.join(known)}")


def reward(known: Mapping[str, Entry], made_by: str | None) -> tuple[str, str | None]:
    """Return the name of the reward model for audio by some maker, and say in the log which and why.

    Args:
        known: all reward models by name.
        made_by: the generator that made the audio; None where it is not known, or not one.

    Returns:
        Its name, and which to take where it turns out that it cannot be downloaded.
    """
    small, download = known[SMALL].info, known[PUBLISHED].download
    assert isinstance(small, RewardInfo) and download is not None  # they are built in
    limits = limits_of(small, made_by)
    if limits is None:
        logger.info("reward %s: trained on music by %s; built in, needs no download and no GPU", SMALL, made_by)
        return SMALL, None
    if not download.is_cached():
        obstacle = download.obstacle()
        if obstacle is not None:
            logger.warning("%s", without_published(limits, obstacle))
            return SMALL, None
        _say_download("reward", PUBLISHED, download)
    logger.info("reward %s: the published reward model, which knows music of all kinds", PUBLISHED)
    return PUBLISHED, SMALL


def limits_of(info: RewardInfo, made_by: str | None) -> str | None:
    """Return what is to be said of a reward model that knows no music but that of other generators; None for others.

    Args:
        info: of the reward model.
        made_by: the generator that made the audio; None where it is not known, or not one.
    """
    if not info.trained_on or made_by in info.trained_on or not _MAKERS.issuperset(info.trained_on):
        return None
    makers = ", ".join(info.trained_on)
    return f"{info.name} was trained on music by {makers} only: its rewards mean little for other music"


def without_published(limits: str, why: str) -> str:
    """Return the one warning where the small reward model has to do."""
    return f"{limits}; {PUBLISHED}, which knows music of all kinds, cannot be had ({why})"


def _say_download(kind: str, name: str, download: Download) -> None:
    size = f"{download.size / 1e9:.1f} GB"
    logger.warning("%s %s is downloaded, %s; name another one to do without", kind, name, size)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
