"""Render training data with `synth`: shards of prompts with candidates, their truth and their spectrograms.

A shard depends on its seed alone, so shards can be made by several processes, in any order, and a run that was stopped
goes on with those that are missing. Each clip is stored twice, as it was made and damaged.

**Conventions**: spectrograms are those of `LogMel` as `MiniAudioTower` reads them, float16 `[clips, mels, frames]`.
"""

import json
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rerank.audio import Audio, resample
from rerank.corpus.captions import Split, captions
from rerank.corpus.damage import DAMAGES, mix_with
from rerank.corpus.lyrics import lyrics
from rerank.corpus.prompts import sentence
from rerank.errors import RerankError
from rerank.files import make_folder, write_bytes
from rerank.generators.synth import make
from rerank.generators.synth.listen import listen
from rerank.generators.synth.truth import Facts
from rerank.generators.synth.voice import vowels_of
from rerank.generators.synth.words import Heard, read_text
from rerank.models.mini import SAMPLE_RATE, MiniAudioTower
from rerank.training.features import write_array

DURATION = 10.0
"""Seconds of every clip."""

CANDIDATES = 4
"""Clips made for each prompt."""


@dataclass(frozen=True)
class Shard:
    """Clips with what is known of them; clip `i` was made for prompt `i // CANDIDATES`.

    Attributes:
        texts, lyrics: of each prompt; an empty string where it has none.
        references: for each prompt the clip that is its reference, -1 for none.
        facts, faults, syllables, heard: of each clip.
        damages: what was done to the damaged version of each clip: name and severity.
        clean, damaged: spectrograms `[clips, mels, frames]`, float16.
    """

    texts: list[str]
    lyrics: list[str]
    references: list[int]
    facts: list[Facts]
    faults: list[dict[str, float]]
    syllables: list[list[tuple[float, str]]]
    heard: list[Heard]
    damages: list[tuple[str, float]]
    clean: NDArray[np.float16]
    damaged: NDArray[np.float16]


def draw_prompt(rng: np.random.Generator, split: Split, sung: bool = False) -> tuple[str, str, bool]:
    """Return the text and lyrics of a random prompt, and whether it has a reference.

    Two thirds of the texts are captions, the others sentences from templates. Text alone, with lyrics, with a reference
    and with both are equally likely, or all have lyrics and no reference (`sung`); one prompt in twenty has lyrics or a
    reference but no text.
    """
    text = str(rng.choice(np.array(captions(split), dtype=object))) if rng.random() < 0.66 else sentence(rng, split)
    with_lyrics, with_reference = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    if sung:
        with_lyrics, with_reference = True, False
    words = lyrics(rng, split)
    if rng.random() < 0.05 and (with_lyrics or with_reference):
        text = ""
    return text, words if with_lyrics else "", with_reference


def render_shard(seed: int, prompts: int, split: Split = "train", sung: bool = False) -> Shard:
    """Make one shard with so many prompts (see `draw_prompt`); the reference of one is an earlier clip of the shard."""
    rng = np.random.default_rng([seed, 17])
    texts, all_lyrics, references = [], [], []
    made: list[tuple[Audio, Any]] = []
    heard: list[Heard] = []
    for prompt in range(prompts):
        text, words, with_reference = draw_prompt(rng, split, sung)
        reference = int(rng.integers(prompt * CANDIDATES)) if with_reference and prompt else -1
        if not (text or words or reference >= 0):
            text = sentence(rng, split)
        request = replace(
            read_text(text), vowels=tuple(vowels_of(words)), reference=heard[reference] if reference >= 0 else None
        )
        for candidate in range(CANDIDATES):
            clip = make(request, np.random.SeedSequence([seed, prompt, candidate]), DURATION)
            made.append(clip)
            heard.append(listen(clip[0]))
        texts.append(text)
        all_lyrics.append(words)
        references.append(reference)
    waveforms = [resample(audio, SAMPLE_RATE).waveform.mean(axis=0) for audio, _ in made]
    damaged, damages = _damage(waveforms, rng)
    known = [truth for _, truth in made]
    return Shard(
        texts=texts,
        lyrics=all_lyrics,
        references=references,
        facts=[_facts(truth["rendered"]) for truth in known],
        faults=[dict(truth["faults"]) for truth in known],
        syllables=[list(truth["syllables"]) for truth in known],
        heard=heard,
        damages=damages,
        clean=spectrograms(waveforms),
        damaged=spectrograms(damaged),
    )


def _damage(
    waveforms: list[NDArray[np.float32]], rng: np.random.Generator
) -> tuple[list[NDArray[np.float32]], list[tuple[str, float]]]:
    damaged, damages = [], []
    names = [*DAMAGES, "mix"]
    for waveform in waveforms:
        name = names[int(rng.integers(len(names)))]
        severity = round(float(rng.uniform(0.3, 1.0)), 3)
        other = waveforms[int(rng.integers(len(waveforms)))]
        damage = mix_with(other) if name == "mix" else DAMAGES[name]
        damaged.append(damage(waveform, SAMPLE_RATE, severity, rng))
        damages.append((name, severity))
    return damaged, damages


def spectrograms(waveforms: list[NDArray[np.float32]]) -> NDArray[np.float16]:
    """Return the spectrograms of waveforms of one length.

    Shape:
        clips of `[time]` at 24 kHz -> `[clips, mels, frames]`, float16
    """
    mel = MiniAudioTower().mel
    with torch.inference_mode():
        return np.stack([mel(torch.from_numpy(w[None]))[0].to(torch.float16).numpy() for w in waveforms])


def render(
    folder: Path,
    shards: int,
    prompts: int,
    seed: int,
    processes: int,
    on_progress: Callable[[int, int], None],
    sung: bool = False,
) -> None:
    """Make shards 0 to `shards` - 1 in `folder`, those that are not there yet, and report (done, of all).

    Args:
        folder: made if needed.
        shards: how many.
        prompts: in each, with `CANDIDATES` clips for each prompt.
        seed: of the whole data set.
        processes: that work at the same time.
        on_progress: called after each shard.
        sung: all prompts have lyrics; the clips are others than those of the same seed without it.

    Raises:
        OutputError: a shard cannot be written.
        RerankError: a process was killed.
    """
    make_folder(folder)
    first = seed * 100_000 + 50_000 * sung
    missing = [index for index in range(shards) if not (folder / f"{index:04d}.json").exists()]
    on_progress(shards - len(missing), shards)
    # fresh processes: a fork of one in which torch has threads may hang
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=fresh, initializer=_end_on_interrupt) as pool:
        jobs = [pool.submit(_write_shard, folder, index, prompts, first + index, sung) for index in missing]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                on_progress(shards - len(missing) + done, shards)
        except BrokenProcessPool as error:
            raise RerankError(
                "a process that rendered data was killed, perhaps for want of memory; what is rendered stays, the same "
                "run goes on from there"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_on_interrupt() -> None:
    """Let Ctrl-C, which a terminal sends to all processes of a command, end this one without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _write_shard(folder: Path, index: int, prompts: int, seed: int, sung: bool) -> None:
    torch.set_num_threads(1)
    shard = render_shard(seed, prompts, sung=sung)
    for name in ("clean", "damaged"):
        write_array(folder / f"{index:04d}.{name}.npy", getattr(shard, name))
    document = {name: value for name, value in asdict(shard).items() if name not in ("clean", "damaged")}
    # written last: a shard with it is complete
    write_bytes(folder / f"{index:04d}.json", json.dumps(document).encode())


def load(folder: Path, index: int) -> Shard:
    """Read one shard; spectrograms stay on disk until used."""
    document = json.loads((folder / f"{index:04d}.json").read_text(encoding="utf-8"))
    document["facts"] = [_facts(facts) for facts in document["facts"]]
    document["heard"] = [Heard(**heard) for heard in document["heard"]]
    document["damages"] = [(name, severity) for name, severity in document["damages"]]
    arrays = {name: np.load(folder / f"{index:04d}.{name}.npy", mmap_mode="r") for name in ("clean", "damaged")}
    return Shard(**document, **arrays)


def _facts(rendered: dict[str, Any]) -> Facts:
    tuples = {name: tuple(rendered[name]) for name in ("mood", "instruments", "vowels")}
    return Facts(**{**rendered, **tuples})
