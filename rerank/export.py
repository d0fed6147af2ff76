"""Copies of the best candidates for others, named by rank, if wished at one loudness; the run itself stays as it is.

**Conventions**: gains in dB; loudness in LUFS, integrated over the whole piece.

**Source**: loudness as in ITU-R BS.1770-4, measured by pyloudnorm.
"""

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rerank.audio import Audio, read, write
from rerank.data import Candidate, check_whole, is_number
from rerank.errors import InvalidInput, OutputError, UnknownName
from rerank.files import as_path, make_folder
from rerank.ranking import Ranking

FORMATS = ("wav", "flac", "mp3", "ogg")

_LOSSY = (".mp3", ".ogg")  # what is decoded from these may have higher peaks than what went in
_TRIES = 4
_MARGIN = 0.05  # dB

_BLOCK = 0.4  # seconds: the shortest piece whose loudness is defined
_MAX_CHANNELS = 5  # that the loudness is defined for
_QUIETEST = -70.0  # LUFS: what is not louder does not count


@dataclass(frozen=True)
class Exported:
    """A copy that was written.

    Attributes:
        path: of the copy.
        rank: of the candidate.
        gain: that it was changed by, in dB; 0 where it has the samples of the candidate.
        limited: whether full scale did not leave room for all of the gain to the loudness asked for.
    """

    path: Path
    rank: int
    gain: float = 0.0
    limited: bool = False


def export(
    ranking: Ranking,
    folder: str | Path,
    *,
    top: int | None = None,
    format: str = "wav",
    loudness: float | None = None,
    overwrite: bool = False,
) -> list[Exported]:
    """Write the best candidates to `folder` as `01-seed4.wav`, `02-seed0.wav`, ..., best first.

    A copy has the level of its candidate, unless a loudness is asked for, or its format cannot hold samples beyond full
    scale: then all of it is changed by one gain. No sample is clipped: where a gain would take the peak beyond full
    scale, it stops there, and `limited` says so.

    Args:
        ranking: whose candidates have audio; all of them stay as they are.
        folder: made if it is missing.
        top: how many of the best; all that the ranking gives back and that have files by default.
        format: "wav" (32-bit float), "flac" (24 bits), "mp3" or "ogg".
        loudness: of each copy, in LUFS, such as -14.
        overwrite: whether files of these names are replaced.

    Raises:
        RerankError: no candidate is ranked.
        InvalidInput: fewer than `top` are ranked, there is no such format, or the loudness of a piece cannot be
            measured or is no number from -70 to 0; nothing was written.
        OutputError: a file of that name is there, or it cannot be written.
    """
    if format not in FORMATS:
        raise UnknownName.among("format", format, FORMATS)
    if loudness is not None and not (is_number(loudness) and _QUIETEST <= loudness <= 0):
        raise InvalidInput(f"loudness must be from {_QUIETEST:g} to 0 LUFS, got {loudness!r}; -14 is usual")
    best = _best(ranking, top)
    place = as_path("folder", folder)
    width = max(2, len(str(len(best))))
    for one in best:
        if one.is_removed:
            raise InvalidInput(f"{_called(one)}: its file was removed from the run, so there is nothing to copy")
    targets = [place / f"{one.rank:0{width}}-{_label(one)}.{format}" for one in best]
    _check_free(targets, ranking, overwrite)
    # all of them before the first is written
    copies = [_planned(one, target, format, loudness) for one, target in zip(best, targets, strict=True)]
    make_folder(place)
    return [_written(_audio(candidate), copy) for candidate, copy in zip(best, copies, strict=True)]


def _written(audio: Audio, copy: Exported) -> Exported:
    """Write a copy and return it; a lossy one whose peak came out beyond full scale is written again, quieter."""
    write(_with_gain(audio, copy.gain), copy.path)
    for _ in range(_TRIES):
        peak = float(np.abs(read(copy.path).waveform).max(initial=0.0)) if copy.path.suffix in _LOSSY else 0.0
        if peak <= 1:
            break
        copy = replace(copy, gain=copy.gain - 20 * math.log10(peak) - _MARGIN, limited=True)
        write(_with_gain(audio, copy.gain), copy.path)
    return copy


def measure_loudness(audio: Audio) -> float:
    """Return the integrated loudness in LUFS; minus infinity where no part of it is louder than -70 LUFS.

    Raises:
        InvalidInput: it is shorter than 0.4 s or has more than 5 channels: its loudness is not defined.
    """
    import pyloudnorm

    if audio.duration < _BLOCK:
        raise InvalidInput(f"it is {audio.duration:.2f} s long, and loudness is measured over {_BLOCK} s and more")
    if audio.channels > _MAX_CHANNELS:
        raise InvalidInput(f"it has {audio.channels} channels, and loudness is defined for up to {_MAX_CHANNELS}")
    samples = audio.waveform.T.astype(np.float64)
    return float(pyloudnorm.Meter(audio.sample_rate).integrated_loudness(samples))


def _best(ranking: Ranking, top: int | None) -> list[Candidate]:
    _ = ranking.best  # says why, where none is ranked
    if top is None:  # those whose files were removed from the run are no more to be had
        return [one for one in ranking if not one.is_removed] or list(ranking)
    ranked = sum(one.rank is not None for one in ranking.candidates)
    check_whole("top", top, 1, ranking.settings.n)
    if top > ranked:
        raise InvalidInput(f"only {ranked} candidates are ranked, so there is no top {top}; ask for {ranked} or fewer")
    return ranking.top(top)


def _label(candidate: Candidate) -> str:
    if candidate.seed is not None:
        return f"seed{candidate.seed}"
    origin = candidate.source
    return re.sub(r"[^\w-]+", "-", origin.stem)[:60] if origin else f"candidate{candidate.index}"


def _check_free(targets: list[Path], ranking: Ranking, overwrite: bool) -> None:
    takes = {os.path.realpath(one.path) for one in ranking.candidates if one.path}
    for target in targets:
        if os.path.realpath(target) in takes:
            raise OutputError(f"cannot write {target}: it is a take of the run; choose another folder")
        if os.path.lexists(target) and not overwrite:
            raise OutputError(
                f"{target} is there already; choose another folder, or --overwrite (in Python: overwrite=True)"
            )


def _planned(candidate: Candidate, path: Path, format: str, loudness: float | None) -> Exported:
    """Return what the copy of a candidate will be."""
    audio, rank = _audio(candidate), candidate.rank or 0
    peak = float(np.abs(audio.waveform).max(initial=0.0))
    room = -20 * math.log10(peak) if peak > 0 else math.inf
    if loudness is None:
        return Exported(path, rank, gain=min(room, 0.0) if format != "wav" else 0.0)
    try:
        measured = measure_loudness(audio)
    except InvalidInput as error:
        raise InvalidInput(f"{_called(candidate)}: {error}; export it without a loudness") from error
    if not math.isfinite(measured):
        raise InvalidInput(f"{_called(candidate)}: it is too quiet for its loudness to be measured; export it without")
    wanted = loudness - measured
    return Exported(path, rank, gain=min(wanted, room), limited=wanted > room)


def _with_gain(audio: Audio, gain: float) -> Audio:
    if gain == 0:
        return audio
    changed = audio.waveform.astype(np.float64) * 10 ** (gain / 20)
    # a peak that reaches full scale may come out a rounding error beyond it
    return Audio(np.clip(changed, -1, 1).astype(np.float32), audio.sample_rate)


def _audio(candidate: Candidate) -> Audio:
    assert candidate.audio is not None  # it is ranked
    return candidate.audio


def _called(candidate: Candidate) -> str:
    return f"rank {candidate.rank} ({candidate.name})"
