"""The page: what stands on it, and where. `page.html` says how, `style.css` how it looks, `script.js` what players do."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from rerank import reasons
from rerank.audio import Audio
from rerank.data import Candidate
from rerank.report import words
from rerank.report.bars import Bar, Scale, bar_of, scales_of
from rerank.report.command import command_of
from rerank.report.legend import about_bars, about_sounds
from rerank.report.sounds import Sound, listening
from rerank.settings import Settings
from rerank.verdict import axes_of

if TYPE_CHECKING:
    from rerank.ranking import Ranking

MAX_BYTES = 5_950_000
"""Of a page: what mail lets through."""

SHOWN, SHOWN_ASIDE = 48, 16
"""How many takes have pictures and players: of those that are ranked, and of the others. The rest stand in a table."""

_FRAME, _PIECE, _ROW, _CELL = 60_000, 30_000, 1_000, 400
"""Bytes of a page, at most: of all that stands there once, of a piece with its pictures, of a take, of its reward."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Take:
    """A take as a page shows it: numbers and durations in words, paths as seen from the page.

    Attributes:
        made: whether it is called after its seed; else it is called after its file.
        length: in seconds.
        rewards: one for each axis.
        set_aside: why it is not ranked; empty where it is, or is not judged yet.
        missing: why there is nothing to see or hear; empty where there is.
    """

    index: int
    made: bool
    name: str
    rank: int | None
    duration: str
    length: float
    combined: str
    rewards: Sequence[str]
    bars: Sequence[Bar]
    reasons: Sequence[str]
    set_aside: str
    file: str
    sound: Sound
    missing: str


def page_of(ranking: "Ranking", folder: Path, digest: str, on_take: Callable[[int, int], None]) -> str:
    """Return the HTML of a page.

    Args:
        ranking: to be shown.
        folder: that the page will be in: paths are as seen from there.
        digest: of the ranking, for `rerank.report.is_stale`.
        on_take: told how many of how many takes are read.
    """
    from jinja2 import Environment, StrictUndefined

    ranked = [one for one in ranking.candidates if one.rank is not None]
    rest = [one for one in ranking.candidates if one.rank is None]
    shown = ranked[: min(SHOWN, ranking.settings.top_k)]
    aside = rest[:SHOWN_ASIDE]
    pieces = [None if one.is_removed else one.audio for one in (*shown, *aside)]
    pieces += [ranking.prompt.reference] if ranking.prompt.reference else []
    with listening(pieces, folder, _room(ranking, pieces)) as sounds_of:
        command = command_of(ranking, folder)  # which imports what it names, while takes are read
        sounds = sounds_of(lambda done: on_take(done, len(pieces)))
    heard = {one.index: sound for one, sound in zip([*shown, *aside], sounds.each, strict=False)}
    scales = scales_of(ranking)
    takes = {one.index: _take(one, heard.get(one.index, Sound()), scales, folder) for one in ranking.candidates}
    style, script = ((_HERE / name).read_text("utf-8").strip() for name in ("style.css", "script.js"))
    environment = Environment(
        autoescape=True, finalize=words.visible, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((_HERE / "page.html").read_text("utf-8"))
    prompt, settings = ranking.prompt, ranking.settings
    reference = prompt.reference
    return template.render(
        words=words,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        digest=digest,
        title=words.title_of(ranking),
        kind=words.kind_of(ranking),
        verdict=words.verdict_of(ranking),
        status=words.status_of(ranking),
        unheard=words.unheard(settings),
        asked=prompt.lyrics is not None or reference is not None or len(prompt.text) > 180 or "\n" in prompt.text,
        prompt=prompt,
        settings=settings,
        reference_file=words.relative(reference.path, folder) if reference and reference.path else "",
        reference_sound=sounds.each[-1] if reference else Sound(),
        scales=scales,
        takes=[takes[one.index] for one in shown],
        more=[takes[one.index] for one in ranked[len(shown) :]],
        aside=[takes[one.index] for one in aside if one.set_aside is not None],
        waiting=[takes[one.index] for one in aside if one.set_aside is None],
        more_aside=[takes[one.index] for one in rest[len(aside) :]],
        set_aside=len(ranking.set_aside),
        about_bars=about_bars(scales),
        scale_sentences=reasons.scales_of(settings, [one.rewards for one in ranking.candidates]),
        sound_sentences=about_sounds(sounds, len(ranking.candidates) - len(shown) - len(aside)),
        facts=words.facts_of(settings, len(ranking.candidates)),
        rewards=[_reward(record, settings) for record in settings.rewards],
        licences=_licences(ranking),
        command=command,
        made_with=words.made_with(settings),
    )


def _room(ranking: "Ranking", pieces: Sequence[Audio | None]) -> int:
    """Return how many bytes of a page are left for players."""
    texts = [*ranking.settings.notes, ranking.prompt.text * 3, (ranking.prompt.lyrics or "") * 3]
    texts += [text for one in ranking.candidates for text in (*one.reasons, one.set_aside or "")]
    rows = len(ranking.candidates) * (_ROW + _CELL * len(ranking.settings.weights))
    text = sum(len(text.encode("utf-8", "replace")) for text in texts)
    return max(0, MAX_BYTES - _FRAME - rows - text - _PIECE * sum(piece is not None for piece in pieces))


def _take(candidate: Candidate, sound: Sound, scales: Sequence[Scale], folder: Path) -> Take:
    audio = candidate.audio
    path = candidate.path or candidate.source
    missing = ""
    if audio is None:
        missing = "" if candidate.set_aside else "There is no audio of it yet."
    elif candidate.is_removed:
        missing = "Its file was removed from the run, as asked: only its numbers are kept."
    elif sound.fault:
        missing = f"It can be neither shown nor played: {sound.fault}."
    # what set it aside stands by itself
    why = next((reason for reason in candidate.reasons if (candidate.set_aside or "\0") in reason), candidate.set_aside)
    bars = [] if candidate.combined is None else [bar_of(scales[0], candidate.combined)]
    bars += [bar_of(scale, candidate.rewards.get(scale.axis)) for scale in scales[1:] if candidate.rewards]
    return Take(
        index=candidate.index,
        made=candidate.seed is not None,
        name=candidate.name,
        rank=candidate.rank,
        duration=words.seconds(audio.duration) if audio else "",
        length=round(audio.duration, 3) if audio else 0.0,
        combined=words.number(candidate.combined),
        rewards=[words.number(candidate.rewards.get(scale.axis)) for scale in scales[1:]],
        bars=bars,
        reasons=[reason for reason in candidate.reasons if reason != why],
        set_aside=why or "",
        file=words.relative(path, folder) if path else "",
        sound=sound,
        missing=missing,
    )


def _reward(record: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return a reward model as the page shows it."""
    about = record.get("axes") or {}
    facts = [
        ("version", record.get("version")),
        ("computed", words.computed_of(record)),
        ("rests on", words.listed([str(name) for name in record.get("encoders") or ()])),
        ("trained on", words.listed([str(name) for name in record.get("trained_on") or ()])),
        ("options", words.options_of(record.get("options") or {})),
    ]
    axes = [
        (axis, (about.get(own) or {}).get("meaning", ""), settings.weights[axis])
        for axis, own in axes_of(record, settings.rewards, settings.weights).items()
    ]
    return {"name": str(record["name"]), "facts": [(name, fact) for name, fact in facts if fact], "axes": axes}


def _licences(ranking: "Ranking") -> list[tuple[str, str, str]]:
    """Return of what, which licence, and what it means."""
    settings = ranking.settings
    found: list[tuple[str, str, str]] = []
    if settings.generator is not None:
        licence = settings.generator_licence
        found.append((f"the generator {settings.generator}", licence or "unknown", words.use_of_takes(licence)))
    else:
        told = "They were made elsewhere. What may be done with them is for whoever made them to say."
        found.append(("the takes", "unknown", told))
    for record in settings.rewards:
        licence = record.get("licence") or (settings.reward_licence if len(settings.rewards) == 1 else None)
        found.append((f"the reward model {record['name']}", licence or "unknown", words.use_of_rewards(licence)))
    return found


def _policy(style: str, script: str) -> str:
    """Return the policy that lets a browser use what is in the page, and ask nobody for anything."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        "default-src 'none'; img-src data:; media-src data:; "
        f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )
