"""Copies carry rank and seed in their name, the level asked for, and never a clipped sample."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rerank
from rerank.audio import Audio, read
from rerank.errors import InvalidInput, OutputError, RerankError, UnknownName
from rerank.export import export, measure_loudness
from rerank.ranking import Ranking
from tests.conftest import ToyGenerator, ToyReward, notes


def ranked(folder: Path | None, n: int = 4, **options: object) -> Ranking:
    return rerank.generate("piano", n, generator=ToyGenerator(), reward=ToyReward(), duration=1.0, output=folder)


def changed(ranking: Ranking, audio: Audio) -> Ranking:
    """Return the ranking with other audio in all its candidates."""
    return replace(ranking, candidates=tuple(replace(one, audio=audio) for one in ranking.candidates))


def tone(level: float, duration: float = 1.0, channels: int = 2, rate: int = 48_000) -> Audio:
    wave = level * np.sin(2 * np.pi * 997 * np.arange(round(duration * rate)) / rate)
    return Audio(np.tile(wave, (channels, 1)).astype(np.float32), rate)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg"])
def test_copies_are_named_by_rank_and_the_takes_stay(tmp_path: Path, format: str) -> None:
    ranking = ranked(tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    copies = export(ranking, tmp_path / "best", top=3, format=format)
    best = ranking.top(3)
    assert [copy.path.name for copy in copies] == [f"0{one.rank}-seed{one.seed}.{format}" for one in best]
    assert sorted((tmp_path / "best").iterdir()) == [copy.path for copy in copies]
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for copy, one in zip(copies, best, strict=True):
        assert one.audio is not None and (copy.rank, copy.gain, copy.limited) == (one.rank, 0.0, False)
        heard, made = read(copy.path), one.audio.waveform
        if format == "wav":
            assert np.array_equal(heard.waveform, made)
        if format == "flac":
            assert np.abs(heard.waveform - made).max() <= 2**-23


def test_by_default_what_the_ranking_gives_back_is_copied(tmp_path: Path) -> None:
    ranking = rerank.generate("piano", 4, generator=ToyGenerator(), reward=ToyReward(), duration=0.5, top_k=2)
    assert len(export(ranking, tmp_path)) == 2


def test_audio_made_elsewhere_is_named_after_its_file(tmp_path: Path) -> None:
    files = [str(notes(np.random.default_rng(i), 1.0).save(tmp_path / f"my take {i}.wav")) for i in range(2)]
    ranking = rerank.rank(files, "piano", reward=ToyReward())
    names = {copy.path.name for copy in export(ranking, tmp_path / "best")}
    assert {name[3:] for name in names} == {"my-take-0.wav", "my-take-1.wav"}
    assert {name[:3] for name in names} == {"01-", "02-"}


@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 32_000), (2, 44_100), (5, 48_000)])
def test_each_copy_gets_the_loudness_asked_for(tmp_path: Path, channels: int, rate: int) -> None:
    ranking = changed(ranked(None), tone(0.05, channels=channels, rate=rate))
    for copy in export(ranking, tmp_path, loudness=-23, format="wav"):
        assert measure_loudness(read(copy.path)) == pytest.approx(-23, abs=0.01)
        assert not copy.limited and copy.gain != 0


def test_loudness_is_that_of_the_standard() -> None:
    """BS.1770: a 997 Hz sine at full scale in one channel is -3.01 LUFS, and 3.01 louder in both of two."""
    assert measure_loudness(tone(1.0, 3.0, channels=1)) == pytest.approx(-3.01, abs=0.05)
    assert measure_loudness(tone(1.0, 3.0, channels=2)) == pytest.approx(0.0, abs=0.05)
    assert measure_loudness(tone(0.1, 3.0, channels=2)) == pytest.approx(-20.0, abs=0.05)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3"])
def test_a_peak_stops_the_gain_at_full_scale(tmp_path: Path, format: str, caplog: pytest.LogCaptureFixture) -> None:
    quiet = tone(0.05).waveform.copy()
    quiet[:, 1_000] = 0.5  # a click
    with caplog.at_level(logging.WARNING, "rerank"):
        for copy in export(changed(ranked(None), Audio(quiet, 48_000)), tmp_path, loudness=-14, format=format):
            assert copy.limited and copy.gain == pytest.approx(6.02, abs=0.01)
            if format != "mp3":  # what is lossy may come out a little beyond
                assert np.abs(read(copy.path).waveform).max() == pytest.approx(1, abs=2**-22)
    assert not caplog.records  # of clamped samples


def test_a_format_that_ends_at_full_scale_gets_less_of_what_goes_beyond(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ranking = changed(ranked(None, 1), tone(2.0))
    with caplog.at_level(logging.WARNING, "rerank"):
        lowered = export(ranking, tmp_path, top=1, format="flac")[0]
    assert lowered.gain == pytest.approx(-6.02, abs=0.01) and not caplog.records
    assert np.abs(read(lowered.path).waveform).max() == pytest.approx(1, abs=2**-22)
    kept = export(ranking, tmp_path, top=1, format="wav")[0]
    assert kept.gain == 0 and np.abs(read(kept.path).waveform).max() == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (tone(0.1, 0.3), "0.30 s long, and loudness is measured over 0.4 s and more; export it without a loudness"),
        (tone(0.1, channels=6), "6 channels, and loudness is defined for up to 5"),
        (tone(1e-5), "too quiet for its loudness to be measured"),
        (tone(0.0), "too quiet"),
    ],
)
def test_a_loudness_that_cannot_be_measured_is_told_and_nothing_is_written(
    tmp_path: Path, audio: Audio, message: str
) -> None:
    ranking = changed(ranked(None), audio)
    with pytest.raises(InvalidInput, match=message) as caught:
        export(ranking, tmp_path / "best", loudness=-14)
    assert f"rank 1 ({ranking.best.name})" in str(caught.value)
    assert not (tmp_path / "best").exists()


def test_nothing_is_replaced_unless_asked(tmp_path: Path) -> None:
    ranking = ranked(tmp_path / "run")
    first = export(ranking, tmp_path / "best", top=1)[0].path
    first.write_bytes(b"mine")
    with pytest.raises(OutputError, match=f"{first} is there already; choose another folder, or --overwrite"):
        export(ranking, tmp_path / "best", top=2)
    assert list((tmp_path / "best").iterdir()) == [first] and first.read_bytes() == b"mine"
    assert len(export(ranking, tmp_path / "best", top=2, overwrite=True)) == 2
    assert read(first).duration == 1.0


def test_a_take_is_never_replaced(tmp_path: Path) -> None:
    ranking = ranked(tmp_path / "run")
    assert ranking.best.path is not None
    link = tmp_path / "best" / f"01-seed{ranking.best.seed}.flac"
    link.parent.mkdir()
    link.symlink_to(ranking.best.path)
    with pytest.raises(OutputError, match="is a take of the run"):
        export(ranking, tmp_path / "best", top=1, format="flac", overwrite=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"format": "aac"}, UnknownName, "unknown format 'aac'.*Known: flac, mp3, ogg, wav"),
        ({"loudness": 3}, InvalidInput, "loudness must be from -70 to 0 LUFS, got 3"),
        ({"loudness": float("nan")}, InvalidInput, "got nan"),
        ({"top": 5}, InvalidInput, "top must be a whole number from 1 to 4, got 5"),
        ({"top": 0}, InvalidInput, "got 0"),
    ],
)
def test_bad_options_are_refused(
    tmp_path: Path, options: dict[str, object], error: type[RerankError], message: str
) -> None:
    with pytest.raises(error, match=message):
        export(ranked(None), tmp_path, **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_no_more_than_what_is_ranked_can_be_copied(tmp_path: Path) -> None:
    some = rerank.generate("piano", 3, generator=ToyGenerator(failing=[0]), reward=ToyReward(), duration=0.5)
    with pytest.raises(InvalidInput, match="only 2 candidates are ranked, so there is no top 3; ask for 2 or fewer"):
        export(some, tmp_path, top=3)
    silent = ToyGenerator(change=lambda _, audio: Audio(0 * audio.waveform, audio.sample_rate))
    none = rerank.generate("piano", 2, generator=silent, reward=ToyReward(), duration=0.5)
    with pytest.raises(RerankError, match="all 2 candidates were set aside"):
        export(none, tmp_path)


def test_takes_whose_files_were_removed_are_left_out(tmp_path: Path) -> None:
    rerank.generate(
        "piano", 4, generator=ToyGenerator(), reward=ToyReward(), duration=0.5, output=tmp_path / "run", keep=2
    )
    found = rerank.load(tmp_path / "run")
    assert [copy.rank for copy in export(found, tmp_path / "copies")] == [1, 2]
    with pytest.raises(RerankError, match="its file was removed from the run"):
        export(found, tmp_path / "more", top=3)


@pytest.mark.parametrize("format", ["mp3", "ogg"])
def test_what_is_decoded_from_a_lossy_copy_is_within_full_scale(tmp_path: Path, format: str) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 44_100)).astype(np.float32)
    loud = changed(ranked(None, 1), Audio(noise, 44_100))
    for loudness in (None, 0):
        [copy] = export(loud, tmp_path / str(loudness), format=format, loudness=loudness)
        assert float(np.abs(read(copy.path).waveform).max()) <= 1 and copy.gain < 0 and copy.limited
