"""The verbs: `generate` makes N candidates and ranks them, `rank` ranks audio made elsewhere, `score` only scores.

**Conventions**: candidate i of a run has seed `seed + i` and depends on nothing but the prompt, its seed, the duration
and the generator's options, so a run of 3 is the beginning of a run of 10. Durations in seconds.

**Source**: best-of-n as rejection sampling: Nakano et al. 2021, arXiv:2112.09332.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, overload

from rerank.audio import Audio, AudioLike, as_audio
from rerank.data import Prompt, check_whole
from rerank.errors import InvalidInput, RewardFailed
from rerank.filters import Filters
from rerank.protocols import Generator, GeneratorInfo, Reward, RewardInfo
from rerank.ranking import Ranking, is_number
from rerank.registry import known_info, load
from rerank.run import MAX_CANDIDATES, Options, ProgressCallback, Reporter, Run, offered_device
from rerank.run_folder import RunFolder
from rerank.scoring import not_finite, score_each

_MAX_SEED = 2**63 - 1 - MAX_CANDIDATES  # the largest seeds that 64-bit random number generators take

logger = logging.getLogger("rerank")


def generate(
    prompt: str | Prompt,
    n: int = 10,
    *,
    top_k: int | None = None,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    duration: float = 10.0,
    seed: int = 0,
    generator: str | Path | Generator = "auto",
    reward: str | Path | Reward = "auto",
    weights: Mapping[str, float] | None = None,
    filters: Filters | None = None,
    device: str = "auto",
    output: str | Path | None = None,
    overwrite: bool = False,
    on_progress: ProgressCallback | None = None,
) -> Ranking:
    """Make `n` candidates for a prompt and rank them.

    Ctrl-C stops generating: the candidates that are finished are scored, ranked and returned with the status
    "interrupted". While they are scored it stops scoring: those that have no reward yet are set aside. A second one
    aborts. A callback may do the same by raising KeyboardInterrupt.

    A run that fails leaves what it made, and `ranking.json` with the reasons and the status "failed", in `output`. One
    that fails or is interrupted leaves it in the subfolder `unfinished` where `output` holds an earlier run, which then
    stays.

    Args:
        prompt: text, or a `Prompt` with all its parts.
        n: how many candidates to make, 1 to 1,024.
        top_k: how many of the best the ranking gives back, 1 to `n`; all by default.
        lyrics: to be sung.
        reference: audio to follow, at most 600 s.
        duration: of each candidate, in seconds; the generator says what it can make.
        seed: of candidate 0; candidate i has `seed + i`.
        generator: a name that `rerank models` lists, a folder of weights, "auto", or a loaded generator.
        reward: a name that `rerank models` lists, a folder of weights, "auto", or a loaded reward model.
        weights: axis -> weight in the combined reward; equal by default, 0 for an axis that is not named.
        filters: what sets a candidate aside; `Filters()` by default.
        device: for generator and reward given by name, where they take one: "auto", "cpu", "cuda".
        output: a folder to write each candidate to as it is finished, and `ranking.json` at the end.
        overwrite: whether `output` may replace a run.
        on_progress: called often, from the calling thread.

    Raises:
        InvalidInput: an option or the prompt cannot be used; nothing was made.
        GenerationFailed: the generator failed on every candidate.
        RewardFailed: the reward model failed on every candidate.
        OutputError: `output` cannot be written; what was written before stays.
    """
    options = Options.checked(n, top_k, weights, filters, device)
    check_whole("seed", seed, 0, _MAX_SEED)
    whole = Prompt.of(prompt, lyrics, reference)
    # all that can be known before anything is loaded, which may take long
    folder = _run_folder(output, overwrite, [whole.reference])
    known = known_info("generator", generator)
    if isinstance(known, GeneratorInfo):
        _check_duration(duration, known)
    _check_axes(options, reward)
    source = cast(Generator, load("generator", generator, {}, offered=options.offered))
    _check_duration(duration, source.info)
    followed = _followed(whole, source.info)
    run = Run(whole, options, _loaded_reward(reward, options), folder, on_progress)
    settings = replace(
        run.settings,
        duration=float(duration),
        seed=int(seed),
        generator=source.info.name,
        generator_licence=source.info.licence,
        not_followed=tuple(part for part in whole.conditions() if part not in source.info.conditions),
    )
    for part in settings.not_followed:
        logger.warning("generator %s does not follow %s: only the reward model gets it", source.info.name, part)
    with run.kept_on_failure(settings):
        run.until_interrupted(lambda: run.generate(source, followed, range(seed, seed + n), float(duration)))
        run.check_generated(source.info.name)
        return run.finish(settings)


def rank(
    audio: Sequence[AudioLike],
    prompt: str | Prompt,
    *,
    top_k: int | None = None,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: str | Path | Reward = "auto",
    weights: Mapping[str, float] | None = None,
    filters: Filters | None = None,
    device: str = "auto",
    output: str | Path | None = None,
    overwrite: bool = False,
    on_progress: ProgressCallback | None = None,
) -> Ranking:
    """Rank audio made elsewhere for a prompt.

    The options are those of `generate`. Candidate i is `audio[i]`; it has no seed.

    Args:
        audio: 1 to 1,024 pieces, each a path, an `Audio` or `(waveform, sample_rate)`.
        prompt: text, or a `Prompt` with all its parts.

    Raises:
        InvalidInput: an option, the prompt or a piece of audio cannot be used.
        RewardFailed: the reward model failed on every candidate.
        OutputError: `output` cannot be written; what was written before stays.
    """
    pieces = _several(audio)
    check_whole("the number of audio files", len(pieces), 1, MAX_CANDIDATES)
    options = Options.checked(len(pieces), top_k, weights, filters, device)
    whole = Prompt.of(prompt, lyrics, reference)
    folder = _run_folder(output, overwrite, [*pieces, whole.reference])
    _check_axes(options, reward)
    # a piece with NaN is a candidate with a fault, not a mistake of the caller
    heard = [as_audio(piece, finite=False) for piece in pieces]
    run = Run(whole, options, _loaded_reward(reward, options), folder, on_progress)
    with run.kept_on_failure(run.settings):
        run.until_interrupted(lambda: run.take(heard))
        return run.finish(run.settings)


@overload
def score(
    audio: AudioLike,
    prompt: str | Prompt,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: str | Path | Reward = "auto",
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
) -> dict[str, float | None]: ...
@overload
def score(
    audio: list[AudioLike] | list[str] | list[Path] | list[Audio],
    prompt: str | Prompt,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: str | Path | Reward = "auto",
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
) -> list[dict[str, float | None]]: ...
def score(
    audio: Any,
    prompt: str | Prompt,
    *,
    lyrics: str | None = None,
    reference: AudioLike | None = None,
    reward: str | Path | Reward = "auto",
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
) -> dict[str, float | None] | list[dict[str, float | None]]:
    """Return the rewards of a piece of audio by axis; for a list of pieces, a list of them in the same order.

    The options are those of `generate`. No filter looks at the audio.

    Raises:
        InvalidInput: an option, the prompt or a piece of audio cannot be used.
        RewardFailed: a reward is not finite, or is no reward.
    """
    pieces = audio if isinstance(audio, list) else [audio]
    check_whole("the number of audio files", len(pieces), 1, MAX_CANDIDATES)
    whole = Prompt.of(prompt, lyrics, reference)
    heard = [as_audio(piece) for piece in pieces]
    model = cast(Reward, load("reward", reward, {}, offered=offered_device(device)))
    report = Reporter(on_progress)
    report.begin("rewarding", len(heard))
    scores: list[dict[str, float | None]] = []
    for piece, result in zip(heard, score_each(model, whole, heard), strict=True):
        fault = result if isinstance(result, str) else not_finite(result)
        if fault or isinstance(result, str):
            raise RewardFailed(f"reward model {model.info.name!r} on {piece}: {fault}; report it to its authors")
        scores.append(result)
        report.finished(len(scores))
    return scores if isinstance(audio, list) else scores[0]


def _several(audio: object) -> list[Any]:
    """Return the pieces of audio that `rank` got; refuse what is one piece, or is none."""
    kind = type(audio).__name__
    if isinstance(audio, tuple) and audio and all(isinstance(piece, str | Path | Audio) for piece in audio):
        raise InvalidInput(f"rank takes a list of audio, got a tuple of {len(audio)}; pass a list: list(audio)")
    if isinstance(audio, str | Path | Audio | tuple):
        raise InvalidInput(f"rank takes a list of audio, got one {kind}; pass [audio], or use score")
    if not isinstance(audio, Iterable):
        raise InvalidInput(f"rank takes a list of audio, got {kind}; pass a list of paths or waveforms")
    return list(audio)


def _run_folder(output: str | Path | None, overwrite: bool, audio: Iterable[object]) -> RunFolder | None:
    """Return the folder for a run that is made from these pieces of audio, whose files it must not replace."""
    if output is None:
        return None
    files = (piece.path if isinstance(piece, Audio) else piece for piece in audio)
    sources = [Path(file) for file in files if isinstance(file, str | Path) and os.path.exists(file)]
    return RunFolder(output, overwrite=overwrite, sources=sources)


def _check_axes(options: Options, reward: object) -> None:
    known = known_info("reward", reward)
    if isinstance(known, RewardInfo):
        options.check_axes(known)


def _loaded_reward(reward: str | Path | Reward, options: Options) -> Reward:
    return cast(Reward, load("reward", reward, {}, offered=options.offered))


def _followed(prompt: Prompt, info: GeneratorInfo) -> Prompt:
    """Return the parts of the prompt that the generator follows."""
    left = [part for part in prompt.conditions() if part in info.conditions]
    if not left:
        raise InvalidInput(
            f"generator {info.name!r} follows only {', '.join(sorted(info.conditions))}, and the prompt has only "
            f"{', '.join(prompt.conditions())}; add one of the former"
        )
    return Prompt(
        prompt.text if "text" in left else "",
        prompt.lyrics if "lyrics" in left else None,
        prompt.reference if "reference" in left else None,
    )


def _check_duration(duration: object, info: GeneratorInfo) -> None:
    if not is_number(duration) or not info.min_duration <= duration <= info.max_duration:
        raise InvalidInput(
            f"duration must be {info.min_duration:g} to {info.max_duration:g} s for generator {info.name!r}, "
            f"got {duration!r:.40}"
        )
