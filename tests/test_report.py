import base64
import hashlib
import io
import logging
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

import rerank
from rerank.audio import Audio
from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput, OutputError
from rerank.protocols import Progress
from rerank.ranking import Ranking
from rerank.report import is_report, is_stale, write_report
from rerank.report.command import command_of, quoted
from rerank.report.page import SHOWN, SHOWN_ASIDE
from rerank.report.pictures import MEL_COLUMNS, WAVE_COLUMNS, drawing_of, scale_of, spectrogram, waveform_path
from rerank.report.players import QUALITIES, fitting, player
from rerank.report.words import filters_of, use_of_rewards, use_of_takes, visible
from rerank.settings import Settings
from tests.conftest import ROOT, SAMPLE_RATE, ToyGenerator, ToyReward, notes

LIMIT = 6_000_000  # bytes of a page

AXES = {
    "musicality": {"meaning": "how good it is as music", "weight": 1.0, "low": None, "high": None},
    "alignment": {"meaning": "how well it fits", "weight": 1.0, "low": None, "high": None},
}
RECORD = {"name": "toy", "version": "7", "options": {}, "licence": "Apache-2.0", "axes": AXES, "calibration": None}


class Page(HTMLParser):
    """What stands in a page: its tags with their attributes, and its text without style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._inside = tag
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "script"):
            self.text += data
        if not data.strip():
            self._inside = ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def settings(n: int, **other: Any) -> Settings:
    given: dict[str, Any] = {
        "n": n,
        "top_k": n,
        "duration": 2.0,
        "seed": 0,
        "generator": "toy",
        "generator_licence": "Apache-2.0",
        "reward": "toy",
        "rewards": (RECORD,),
        "weights": {"musicality": 0.5, "alignment": 0.5},
        "filters": rerank.Filters().to_dict(),
        "rerank_version": "0.1.0",
        "versions": {"torch": "2.13.0"},
    }
    return Settings(**{**given, **other})


def take(index: int, duration: float = 2.0, **other: Any) -> Candidate:
    audio = notes(np.random.default_rng(index), duration)
    rewards = {"musicality": index % 7 - 3.0, "alignment": -0.25 * index}
    return replace(Candidate(index=index, seed=index, audio=audio, rewards=rewards), **other)


def ranked(n: int = 3, prompt: Prompt | None = None, takes: Any = None, **other: Any) -> Ranking:
    return Ranking.of(prompt or Prompt("slow piano"), takes or map(take, range(n)), settings(n, **other))


def written(ranking: Ranking, folder: Path) -> str:
    return write_report(ranking, folder / "report.html").read_text("utf-8")


def sound_of(address: str | None) -> tuple[np.ndarray[Any, Any], int]:
    kind, _, content = (address or "").partition(",")
    assert kind == "data:audio/mpeg;base64"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
    return samples, rate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of four candidates, of which one failed."""
    folder = tmp_path_factory.mktemp("run")
    rerank.generate(
        "slow piano", n=4, duration=2.0, generator=ToyGenerator(failing=[2]), reward=ToyReward(), output=folder
    )
    return folder


# what stands on it


def test_takes_stand_in_rank_order_with_numbers_reasons_pictures_and_players(run: Path) -> None:
    ranking = rerank.load(run)
    page = Page(written(ranking, run))
    order = [page.words.index(f"Rank {one.rank}: {one.name}") for one in ranking]
    assert order == sorted(order) and len(order) == 3
    for one in ranking:
        for number in (one.combined, *one.rewards.values()):
            assert f"{number:.3f}" in page.words
        for reason in one.reasons:
            assert reason in page.words
    assert len(page.all("audio")) == 3
    for picture, one in zip(page.all("img"), ranking, strict=True):
        assert one.name in (picture["alt"] or "")
    for player_, one in zip(page.all("audio"), ranking, strict=True):
        samples, rate = sound_of(player_["src"])
        assert one.audio is not None
        assert len(samples) / rate == pytest.approx(one.audio.duration, abs=0.1)
        assert samples.ndim == 2 and rate == SAMPLE_RATE
        # it is the sound of that take: what was cut by the codec is little of it
        own = one.audio.waveform.T[: len(samples)]
        assert np.corrcoef(samples[: len(own), 0], own[:, 0])[0, 1] > 0.95


def test_what_was_set_aside_stands_there_with_its_reason(run: Path) -> None:
    page = Page(written(rerank.load(run), run))
    assert "1 take is not ranked" in page.words
    assert "generation failed: RuntimeError: no ideas for seed 2" in page.words


def test_what_was_set_aside_for_its_sound_can_be_heard(tmp_path: Path) -> None:
    takes = [take(0), take(1), take(2, set_aside="clipped: 30.0% of the samples are at full scale")]
    page = Page(written(ranked(takes=takes), tmp_path))
    assert len(page.all("audio")) == 3
    assert "the filter 'clipped' set it aside" in page.words


@pytest.mark.parametrize(
    "gap, word, told",
    [
        (5.0, "Clear.", "By the rewards, seed 0 is better than seed 1 with a probability of 99%"),
        (0.8, "Leans to seed 0.", "with a probability of 68%"),
        (0.1, "Too close to call.", "with a probability of 52%. Listen to both."),
    ],
)
def test_the_verdict_is_said_in_a_sentence(gap: float, word: str, told: str, tmp_path: Path) -> None:
    takes = [take(0, rewards={"musicality": gap}), take(1, rewards={"musicality": 0.0})]
    record = {**RECORD, "calibration": 1.0}
    page = Page(written(ranked(takes=takes, rewards=(record,), weights={"musicality": 1.0}), tmp_path))
    assert f"{word} " in page.words and told in page.words


def test_without_a_calibration_it_says_so(tmp_path: Path) -> None:
    assert (
        "First comes seed 2. How sure this is, nobody has measured for takes like these."
        in Page(written(ranked(), tmp_path)).words
    )


def test_a_single_take_is_said_to_be_alone(tmp_path: Path) -> None:
    page = Page(written(ranked(1), tmp_path))
    assert "Only seed 0 is ranked." in page.words
    assert "fill" not in str(page.all("rect"))  # there is nothing to compare with


@pytest.mark.parametrize(
    "status, told", [("running", "still going on"), ("interrupted", "stopped"), ("failed", "failed")]
)
def test_an_unfinished_run_says_how_far_it_is(status: Any, told: str, tmp_path: Path) -> None:
    takes = [take(0), take(1), take(2, rewards={}), take(3, audio=None, set_aside="generation failed: no ideas")]
    ranking = replace(ranked(5, takes=takes), status=status)
    page = Page(written(ranking, tmp_path))
    assert told in page.words and "3 of 5 takes finished" in page.words
    assert "Not judged yet" in page.words
    assert len(page.all("audio")) == 3


def test_a_run_without_any_rank_has_a_page(tmp_path: Path) -> None:
    page = Page(written(ranked(takes=[take(0, audio=None, set_aside="generation failed: no ideas")]), tmp_path))
    assert "Not one take is ranked." in page.words


def test_what_of_the_prompt_was_not_understood_is_said(tmp_path: Path) -> None:
    prompt = Prompt("ein Lied", "la la", notes(np.random.default_rng(9), 1.0))
    told: dict[str, Any] = {"notes": ("the text is not in English",)}
    told |= {"not_followed": ("lyrics",), "not_read": ("reference",)}
    page = Page(written(ranked(prompt=prompt, **told), tmp_path))
    assert "the text is not in English." in page.words
    assert "The generator toy does not follow the lyrics." in page.words
    assert "No reward model reads the reference." in page.words
    assert "la la" in page.words
    assert len(page.all("audio")) == 4  # the reference too


def test_what_is_long_is_folded_and_whole(tmp_path: Path) -> None:
    text, lyrics = " ".join(f"word{i}" for i in range(400)), "\n".join(f"line {i}" for i in range(300))
    page = Page(written(ranked(prompt=Prompt(text, lyrics)), tmp_path))
    assert text in page.words
    assert " ".join(lyrics.split()) in page.words
    assert len(page.all("details")) >= 3  # text, lyrics and the command


def test_a_ranking_without_a_prompt_has_a_page(tmp_path: Path) -> None:
    page = Page(written(ranked(prompt=Prompt.recalled("", None, None), seed=None, generator=None), tmp_path))
    assert "Takes without a prompt" in page.words


def test_settings_axes_licences_and_versions_stand_there(tmp_path: Path) -> None:
    other: dict[str, Any] = {"generator_version": "v9", "generator_options": {"guidance": 4.5}, "rule": "zscore"}
    page = Page(written(ranked(**other), tmp_path))
    for told in (
        "v9",
        "guidance = 4.5",
        "how well it fits; weight 0.5",
        "torch 2.13.0",
        "rerank 0.1.0",
        "in standard deviations",
    ):
        assert told in page.words, told
    assert "The takes may be used freely, also commercially." in page.words


def test_several_reward_models_and_rewards_that_are_missing(tmp_path: Path) -> None:
    bounded = {"score": {"meaning": "all of it", "weight": 1.0, "low": 1.0, "high": 5.0}}
    records = (RECORD, {**RECORD, "name": "other", "axes": bounded})
    weights = {"toy.musicality": 0.4, "toy.alignment": 0.2, "other.score": 0.4}
    takes = [
        take(0, rewards={"toy.musicality": -3.0, "toy.alignment": None, "other.score": 4.0}),
        take(1, rewards={"toy.musicality": 1e6, "toy.alignment": None, "other.score": 2.0}),
        take(2, rewards={"toy.musicality": 0.0, "toy.alignment": None}, faults={"other": "it broke"}),
    ]
    page = Page(written(ranked(takes=takes, rewards=records, weights=weights, reward="toy, other"), tmp_path))
    assert "other.score goes from the least that it can be to the most" in page.words
    assert "other gave no reward: it broke" in page.words
    places = {attributes["width"] for attributes in page.all("rect") if attributes["class"] == "fill"}
    assert {"75.0", "25.0", "100.0", "0.8"} <= places
    assert "none" in page.words


def test_a_table_takes_what_is_too_much(tmp_path: Path) -> None:
    n = 80
    audio = notes(np.random.default_rng(0), 0.2)
    takes = [take(i, audio=audio, set_aside="silent: no sound at all" if i % 4 == 3 else None) for i in range(n)]
    page = Page(written(ranked(n, takes=takes), tmp_path))
    assert len(page.all("article")) == SHOWN + SHOWN_ASIDE
    assert f"{n - SHOWN - SHOWN_ASIDE} takes stand in a table" in page.words
    for index in range(n):
        assert re.search(rf"seed {index}\b", page.words)


def test_takes_beyond_the_wanted_ones_stand_in_the_table(tmp_path: Path) -> None:
    page = Page(written(ranked(5, top_k=2), tmp_path))
    assert len(page.all("article")) == 2
    assert "3 more takes, ranked 3 to 5" in page.words


# files


def test_a_missing_or_changed_file_is_said_and_the_rest_stands(run: Path, tmp_path: Path) -> None:
    ranking = rerank.load(run)
    ranking.save(tmp_path / "copy")
    first, second, _ = (one.path for one in rerank.load(tmp_path / "copy"))
    assert first and second
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    page = Page(written(rerank.load(tmp_path / "copy"), tmp_path / "copy"))
    assert f"cannot read candidates/{first.name}: no such file" in page.words
    assert f"candidates/{second.name} has changed since it was stored" in page.words
    assert len(page.all("audio")) == 1
    assert str(tmp_path) not in page.words


def test_a_file_that_was_removed_on_purpose_is_said_so(tmp_path: Path) -> None:
    rerank.generate(
        "slow piano", n=3, duration=1.0, generator=ToyGenerator(), reward=ToyReward(), output=tmp_path / "run", keep=1
    )
    page = Page(written(rerank.load(tmp_path / "run"), tmp_path / "run"))
    assert page.words.count("Its file was removed from the run") == 2
    assert len(page.all("audio")) == 1


def test_samples_that_are_not_finite_are_neither_drawn_nor_played(tmp_path: Path) -> None:
    broken = Audio(np.array([[np.nan, 0.1] * 800], np.float32), SAMPLE_RATE)
    takes = [take(0), take(1, audio=broken, set_aside="not finite: 800 of 1600 samples are NaN or infinite")]
    page = Page(written(ranked(takes=takes), tmp_path))
    assert "some of its samples are not finite" in page.words
    assert len(page.all("audio")) == 1


def test_a_ranking_of_files_names_them(tmp_path: Path) -> None:
    paths = [tmp_path / "songs" / f"{name}.wav" for name in ("a", "b")]
    paths[0].parent.mkdir()
    for index, path in enumerate(paths):
        notes(np.random.default_rng(index), 1.0).save(path)
    ranking = rerank.rank(list(paths), "slow piano", reward=ToyReward())
    page = Page(written(ranking, tmp_path))
    assert "songs/a.wav" in page.words and "2 recordings, ranked by toy" in page.words
    assert "rerank rank songs/a.wav songs/b.wav --prompt 'slow piano' --reward toy" in page.words
    assert "What may be done with them is for whoever made them to say." in page.words


def test_the_page_is_the_same_to_the_byte(run: Path, tmp_path: Path) -> None:
    first = written(rerank.load(run), run)
    assert written(rerank.load(run), run) == first
    code = f"import rerank; rerank.load('{run}').report('{run}/report.html')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert (run / "report.html").read_text("utf-8") == first


# safety


HOSTILE = "</title></script><img src=x onerror=alert(1)>\u202e\x1b[31m\"'&amp;{{ 7*7 }}<!--"


def test_text_of_others_does_nothing(tmp_path: Path) -> None:
    takes = [
        take(0, source=Path(f"{HOSTILE}.wav"), seed=None, rewards={HOSTILE: 1.0}, faults={HOSTILE: HOSTILE}),
        take(1, seed=None, rewards={HOSTILE: 0.5}, set_aside=f"cannot be read: {HOSTILE}"),
    ]
    record: dict[str, Any] = {
        **RECORD,
        "name": HOSTILE,
        "version": HOSTILE,
        "licence": HOSTILE,
        "options": {HOSTILE: HOSTILE},
    }
    record["axes"] = {HOSTILE: {"meaning": HOSTILE, "weight": 1.0, "low": None, "high": None}}
    other: dict[str, Any] = {
        "weights": {HOSTILE: 1.0},
        "rewards": (record,),
        "generator": HOSTILE,
        "generator_version": HOSTILE,
        "generator_licence": HOSTILE,
        "generator_options": {HOSTILE: HOSTILE},
        "notes": (HOSTILE,),
        "not_followed": (HOSTILE,),
        "versions": {HOSTILE: HOSTILE},
        "filters": {"floors": {HOSTILE: 1.0}},
    }
    text = written(ranked(prompt=Prompt(HOSTILE, HOSTILE), takes=takes, **other), tmp_path)
    page = Page(text)
    plain = Page(written(ranked(2), tmp_path))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags} | {"details", "summary", "ul", "wbr", "span"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all((image["src"] or "").startswith("data:image/webp;base64,") for image in page.all("img"))
    assert len(page.all("script")) == 1
    assert "\u202e" not in text and "\x1b" not in text
    assert "[U+202E][U+001B][31m\"'&amp;{{ 7*7 }}<!--" in page.words


def test_half_characters_in_a_name_do_no_harm(tmp_path: Path) -> None:
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    text = written(ranked(takes=[take(0, seed=None, source=Path(name))]), tmp_path)
    assert "caf[U+DCE9].wav" in Page(text).words


def test_nothing_is_asked_of_anybody(run: Path) -> None:
    text = written(rerank.load(run), run)
    page = Page(text)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data", "xlink:href"):
            address = attributes.get(name) or "data:"
            assert address.startswith(("data:", "#")), (tag, address)
    code = re.sub(r"data:[a-z/]+;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//\w|url\(|@import|fetch\(|XMLHttp|import\(", code)
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:; media-src data:; ")
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not any("style" in attributes for _, attributes in page.tags)


def test_visible() -> None:
    assert visible("tab\tline\nאב") == "tab\tline\nאב"
    assert visible("\u2066a\x00\ud800") == "[U+2066]a[U+0000][U+D800]"


# size


def song(seed: int, duration: float, sample_rate: int) -> Audio:
    """Return loud dense music with noise in stereo, which a codec has work with."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(duration * sample_rate)) / sample_rate
    tones = sum(np.sin(2 * np.pi * hertz * time + rng.uniform(0, 6)) for hertz in rng.uniform(60, 4000, 12))
    beat = (1 - (time * 2) % 1) ** 4
    noise = rng.standard_normal((2, len(time))) * (0.05 + 0.2 * beat)
    return Audio((0.05 * tones + noise).clip(-1, 1).astype(np.float32), sample_rate)


def test_sixteen_takes_of_thirty_seconds_fit(tmp_path: Path) -> None:
    audio = song(0, 30.0, 44_100)
    takes = [take(i, audio=audio) for i in range(16)]
    path = write_report(ranked(16, takes=takes), tmp_path / "report.html")
    assert path.stat().st_size <= LIMIT
    page = Page(path.read_text("utf-8"))
    assert len(page.all("audio")) == len(page.all("img")) == 16
    assert "MP3 in stereo at 64 kbit/s" in page.words
    samples, rate = sound_of(page.all("audio")[0]["src"])
    assert samples.shape[1] == 2 and len(samples) / rate == pytest.approx(30.0, abs=0.1)


def test_what_has_no_room_has_no_player_and_the_page_says_so(tmp_path: Path) -> None:
    long = Audio(np.tile(notes(np.random.default_rng(0), 30.0, 8_000).waveform, 20), 8_000)  # ten minutes
    path = write_report(ranked(3, takes=[take(i, audio=long) for i in range(3)]), tmp_path / "report.html")
    assert path.stat().st_size <= LIMIT
    page = Page(path.read_text("utf-8"))
    assert len(page.all("img")) == 3 and len(page.all("audio")) == 1
    assert "2 takes have no player" in page.words
    assert "10:00 min" in page.words


def test_the_quality_is_the_best_that_fits() -> None:
    pieces = [Audio.stored("a.wav", sample_rate=44_100, channels=2, frames=44_100 * 30) for _ in range(16)]
    assert fitting(pieces, 10**9) == (QUALITIES[0], 16)
    assert fitting(pieces, 5_400_000) == (QUALITIES[2], 16)
    quality, count = fitting(pieces, 1_000_000)
    assert quality == QUALITIES[-1] and 0 < count < 16
    assert sum(quality.size_of(piece) for piece in pieces[:count]) <= 1_000_000
    assert fitting(pieces, 0) == (QUALITIES[-1], 0)
    assert fitting([], 0)[1] == 0


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("sample_rate, channels", [(44_100, 2), (8_000, 1), (96_000, 6), (17_000, 1)])
def test_a_player_is_no_larger_than_was_planned(quality: Any, sample_rate: int, channels: int) -> None:
    audio = Audio(song(1, 3.0, sample_rate).waveform[[0, 1, 0, 1, 0, 1][:channels]], sample_rate)
    address = player(audio, quality)
    assert len(address) <= quality.size_of(audio)
    samples, rate = sound_of(address)
    assert len(samples) / rate == pytest.approx(3.0, abs=0.25) and rate <= quality.sample_rate


# pictures


def test_a_waveform_shows_what_is_loud_at_one_scale() -> None:
    loud, quiet = (Audio(level * np.ones((1, 1000), np.float32), 8000) for level in (0.8, 0.2))
    drawings = [drawing_of(one) for one in (loud, quiet)]
    peak, _ = scale_of(drawings)
    assert peak == pytest.approx(0.8)
    paths = [waveform_path(one, peak) for one in drawings]
    assert paths[0].startswith("M0 0l1 0 ") and paths[1].startswith("M0 75l1 0 ")
    assert paths[0].count("1 ") == 2 * (WAVE_COLUMNS - 1)


def test_a_waveform_keeps_single_peaks() -> None:
    samples = np.zeros((2, 100_000), np.float32)
    samples[1, 77_777] = -0.9
    drawing = drawing_of(Audio(samples, 44_100))
    assert drawing.lows.min() == np.float32(-0.9) and drawing.peak == pytest.approx(0.9)


@pytest.mark.parametrize("hertz", [110.0, 1000.0, 6000.0])
def test_a_spectrogram_shows_a_tone_where_it_is(hertz: float) -> None:
    time = np.arange(3 * 44_100) / 44_100
    tone = 0.5 * np.sin(2 * np.pi * hertz * time)
    drawing = drawing_of(Audio(np.stack([tone, -tone]).astype(np.float32), 44_100))  # which cancel in the mix
    _, loudest = scale_of([drawing])
    address = spectrogram(drawing, loudest)
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert picture.size[0] == MEL_COLUMNS
    darkness = 255 - np.asarray(picture.convert("L"), float).mean(axis=1)
    low, place, high = (np.log(1 + f / 700) for f in (30, hertz, 16_000))
    assert 1 - darkness.argmax() / len(darkness) == pytest.approx((place - low) / (high - low), abs=0.03)


def test_a_quieter_take_is_paler() -> None:
    loud, quiet = (Audio(level * song(1, 2.0, 32_000).waveform, 32_000) for level in (1.0, 0.03))
    drawings = [drawing_of(loud), drawing_of(quiet)]
    _, loudest = scale_of(drawings)
    lightness = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(spectrogram(one, loudest).partition(",")[2]))).convert("L"))
        for one in drawings
    ]
    assert lightness[1].mean() > lightness[0].mean() + 20


@pytest.mark.parametrize("frames", [1, 2, 50, 1000])
def test_the_shortest_takes_can_be_drawn(frames: int) -> None:
    for sample_rate in (8_000, 192_000):
        drawing = drawing_of(Audio(np.full((1, frames), 0.5, np.float32), sample_rate))
        assert waveform_path(drawing, 1.0).endswith("z")
        assert spectrogram(drawing, 0.0).startswith("data:image/webp")


def test_silence_can_be_drawn() -> None:
    drawing = drawing_of(Audio(np.zeros((1, 8000), np.float32), 8000))
    peak, loudest = scale_of([drawing])
    assert peak == 1.0 and spectrogram(drawing, loudest)


# the command


def parsed(ranking: Ranking, folder: Path) -> list[str]:
    return shlex.split(command_of(ranking, folder).text.replace("\\\n", ""))


def test_the_command_makes_it_again(tmp_path: Path) -> None:
    """What the command on the page makes has the numbers of what the page shows."""
    first = rerank.generate("slow sad piano", n=3, duration=2.0, seed=5, generator="synth", reward="cmi-mini", top_k=2)
    words = parsed(first, tmp_path)
    assert words[0] == "rerank"
    done = subprocess.run(
        [sys.executable, "-m", "rerank", *words[1:], "-o", str(tmp_path / "again")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again = rerank.load(tmp_path / "again")
    assert [(one.seed, one.combined) for one in again] == [(one.seed, one.combined) for one in first]
    assert again.settings.top_k == 2


def test_the_command_leaves_out_what_is_default(tmp_path: Path) -> None:
    ranking = rerank.generate("slow piano", n=2, duration=1.0, generator="synth", reward="cmi-mini")
    assert " ".join(parsed(ranking, tmp_path)) == (
        "rerank generate slow piano -n 2 --duration 1 --seed 0 --generator synth --reward cmi-mini"
    )


def test_the_command_names_what_is_not_default(plugged: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    reference = notes(np.random.default_rng(1), 1.0).save(tmp_path / "in" / "my ref.wav")
    filters = rerank.Filters(silent=None, short=0.5, floors={"musicality": -2.5})
    ranking = ranked(
        4,
        prompt=Prompt("it's\nslow", "la 'la'\n", reference),
        top_k=2,
        duration=2.5,
        seed=7,
        weights={"musicality": 0.25, "alignment": 0.75},
        rule="rank",
        filters=filters.to_dict(),
        generator="synth",
        generator_options={"flawless": True, "unheard of": 3},
    )
    given = parsed(ranking, tmp_path / "in")
    assert given[:3] == ["rerank", "generate", "it's\nslow"]
    assert given[3:] == (
        ["-n", "4", "--duration", "2.5", "--seed", "7", "--generator", "synth", "--generator-option", "flawless=true"]
        + ["--lyrics", "la 'la'\n", "--reference", "my ref.wav", "--reward", "toy"]
        + ["--weight", "musicality=0.25", "--weight", "alignment=0.75", "--rule", "rank"]
        + ["--filter", "silent=off", "--filter", "short=0.5", "--floor", "musicality=-2.5", "--top-k", "2"]
    )


def test_what_is_not_installed_is_said(tmp_path: Path) -> None:
    command = command_of(ranked(generator="gone", generator_options={"steps": 8, "clip": "sha256:00"}), tmp_path)
    assert "--generator gone --generator-option steps=8" in " ".join(command.text.replace("\\\n", "").split())
    assert any("generator gone is not installed here" in note for note in command.notes)
    assert any('clip = "sha256:00", which a command cannot give' in note for note in command.notes)
    bare = command_of(ranked(generator="gone"), tmp_path)
    assert "The generator gone is not installed here: the command fails without it." in bare.notes


def test_several_reward_models_in_the_command(tmp_path: Path) -> None:
    records = ({**RECORD, "name": "one", "options": {"k": 2}}, {**RECORD, "name": "two"})
    weights = {f"{name}.{axis}": 0.25 for name in ("one", "two") for axis in AXES}
    given = parsed(ranked(rewards=records, weights=weights, rule="zscore"), tmp_path)
    assert given[-6:] == ["--reward", "one", "--reward", "two", "--reward-option", "one.k=2"]


def test_a_prompt_that_begins_with_a_dash_comes_last(tmp_path: Path) -> None:
    assert parsed(ranked(prompt=Prompt("-5 dB techno")), tmp_path)[-2:] == ["--", "-5 dB techno"]


@pytest.mark.parametrize(
    "word", ["plain", "it's", "a\x1b[2J'b\\", "\u202eabc", "two\nlines", "", "tab\there", "\x85", "bad\udcff.wav"]
)
def test_a_shell_reads_back_what_was_quoted(word: str) -> None:
    shown = quoted(word)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", shown)
    done = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True)
    assert os.fsdecode(done.stdout) == word


# licences and filters in words


@pytest.mark.parametrize(
    "licence, takes, rewards",
    [
        ("CC BY-NC 4.0 (not for commercial use)", "not for commercial use", "not for commercial use"),
        ("Apache-2.0; the audio is yours", "freely", "freely"),
        ("Stability AI Community License", "Read it before", "Read it before"),
        (None, "not known", "not known"),
        ("unknown", "not known", "not known"),
    ],
)
def test_what_a_licence_means(licence: str | None, takes: str, rewards: str) -> None:
    assert takes in use_of_takes(licence) and rewards in use_of_rewards(licence)


def test_every_filter_has_words() -> None:
    told = filters_of(settings(1, filters=rerank.Filters(floors={"musicality": 0.5}).to_dict()))
    assert len(told) == len(rerank.Filters().to_dict()) and not any("_" in one for one in told)


# where it is written


def test_another_file_is_not_replaced(run: Path, tmp_path: Path) -> None:
    ranking, path = rerank.load(run), tmp_path / "page.html"
    path.write_text("my own page")
    with pytest.raises(OutputError, match="is there already, and is no report"):
        ranking.report(path)
    assert path.read_text() == "my own page"
    assert ranking.report(path, overwrite=True) == path
    assert is_report(path)
    ranking.first(1).report(path)  # one of ours is
    with pytest.raises(OutputError, match="it is a folder"):
        ranking.report(tmp_path)
    with pytest.raises(OutputError, match="cannot write"):
        ranking.report(tmp_path / "missing" / "page.html")
    with pytest.raises(InvalidInput, match="path must be a path"):
        ranking.report("")


def test_a_pipe_is_neither_waited_for_nor_replaced(run: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for options in ([], ["--overwrite"]):
        command = [sys.executable, "-m", "rerank", "report", str(run), "-o", str(pipe), *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert pipe.is_fifo()


def test_a_page_knows_what_it_is_of(run: Path) -> None:
    ranking = rerank.load(run)
    path = ranking.report(run / "report.html")
    assert not is_stale(ranking, path)
    assert is_stale(ranking.reweight({"musicality": 1}), path)
    assert not is_stale(ranking, run / "ranking.json")
    assert not is_stale(ranking, run / "nothing.html")


def test_progress_is_told(run: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    write_report(rerank.load(run), tmp_path / "report.html", on_progress=told.append)
    assert [(one.phase, one.done, one.total) for one in told] == [("reporting", done, 4) for done in range(1, 5)]


def test_a_stop_leaves_no_page(run: Path, tmp_path: Path) -> None:
    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(rerank.load(run), tmp_path / "report.html", on_progress=stop)
    assert not list(tmp_path.iterdir())


def test_a_run_with_a_page_goes_on_as_without(tmp_path: Path) -> None:
    def made(**other: Any) -> Ranking:
        made_with = {"generator": ToyGenerator(), "reward": ToyReward(), "duration": 1.0, "output": tmp_path / "run"}
        return rerank.generate("slow piano", **{**made_with, **other})

    path = made(n=2).report(tmp_path / "run" / "report.html")
    content = path.read_bytes()
    for ranking in (made(n=3, resume=True), made(n=1, overwrite=True)):
        assert path.read_bytes() == content
        assert is_stale(ranking, path)
    done = cli("show", str(tmp_path / "run"))
    assert done.returncode == 0 and "report.html shows an earlier state of this run" in done.stderr
    assert cli("report", str(tmp_path / "run")).returncode == 0
    assert not cli("show", str(tmp_path / "run")).stderr
    assert {one.name for one in (tmp_path / "run").iterdir()} == {"ranking.json", "candidates", "report.html"}


def test_clamping_is_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        written(ranked(takes=[take(0, audio=Audio(np.full((1, 8000), 1.5, np.float32), 8000))]), tmp_path)
    assert not caplog.records


# the command line


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rerank", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_rerank_report(run: Path, tmp_path: Path) -> None:
    done = cli("report", str(run))
    assert (done.returncode, done.stdout) == (0, f"written to {(run / 'report.html').resolve().as_uri()}\n"), (
        done.stderr
    )
    assert is_report(run / "report.html")
    done = cli("report", str(run / "ranking.json"), "-o", str(tmp_path / "my page.html"))
    assert done.returncode == 0 and done.stdout.endswith("/my%20page.html\n")
    (tmp_path / "other").write_text("mine")
    done = cli("report", str(run), "-o", str(tmp_path / "other"))
    assert done.returncode == 1 and "is no report" in done.stderr and done.stderr.count("\n") == 1
    assert cli("report", str(run), "-o", str(tmp_path / "other"), "--overwrite").returncode == 0
    done = cli("report", str(tmp_path))
    assert done.returncode == 1 and "there is no run in" in done.stderr
