"""What is to be judged anew of a candidate that a run knows already, and hearing it for that."""

from dataclasses import replace

from rerank.audio import Audio, as_stored, short_fault
from rerank.data import Candidate
from rerank.errors import UnreadableAudio
from rerank.runs.panel import Panel

_OF_FILTERS = {"not_finite", "silent", "clipped", "dc_offset", "short", "duplicate"}
_OF_REWARDS = {"floor", "reward_failed", "reward_not_finite", "not_scored", "no_axis"}


def asked_again(candidate: Candidate, *, heard: bool) -> Candidate:
    """Return a candidate of a run that is gone on with, without what is to be decided anew."""
    kind = candidate.set_aside_kind
    of_sound = kind == "unreadable" or (kind in _OF_FILTERS and not heard)
    if kind in _OF_REWARDS or (of_sound and not candidate.is_removed):
        candidate = replace(candidate, set_aside=None)
    # what a reward model failed on may have been the machine's fault
    return replace(candidate, rewards={}) if kind in ("reward_failed", "reward_not_finite") else candidate


def reopened(candidate: Candidate, panel: Panel, *, heard: bool) -> Candidate:
    """Return a candidate of a run that is ranked again without what may come out otherwise this time.

    Args:
        candidate: as the run has it.
        panel: the reward models that are asked.
        heard: whether the filters on the sound are those that it went through.
    """
    kind, completes = candidate.set_aside_kind, panel.completes(candidate.rewards)
    open_again = (
        kind in ("floor", "no_axis")
        or (kind in _OF_FILTERS and not heard and not candidate.is_removed)
        or (kind == "unreadable" and bool(panel.infos))
        or (kind in ("not_scored", "reward_failed") and completes and panel.lacks(candidate.rewards))
    )
    return replace(candidate, set_aside=None) if open_again else candidate


def heard(candidate: Candidate, *, exact: bool) -> tuple[Candidate, Audio | None]:
    """Return a candidate with its audio in memory, or set aside where that cannot be read or is too short to be judged.

    Args:
        candidate: with audio.
        exact: whether its samples become those that its file will hold, so that what is scored, stored and read again is
            the same; a copy in any case: a generator may use its array again.
    """
    assert candidate.audio is not None
    try:
        audio = candidate.audio.loaded()
    except UnreadableAudio as error:
        return replace(candidate, set_aside=f"cannot be read: {error}"), None
    if exact:
        rounded = as_stored(audio)
        audio = Audio(audio.waveform.copy(), audio.sample_rate) if rounded is audio else rounded
        candidate = replace(candidate, audio=audio)
    if fault := short_fault(audio):
        return replace(candidate, set_aside=f"too short: {fault}"), None
    return candidate, audio
