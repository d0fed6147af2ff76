"""The page of a ranking in a browser: Debian's chromium, driven by playwright; skipped where there is no chromium."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, sync_playwright

from rerank.data import Prompt
from rerank.ranking import Ranking
from rerank.report import write_report
from rerank.report.page import SHOWN
from tests.conftest import notes
from tests.test_report import HOSTILE, RECORD, ranked, take

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

Shown = Callable[..., Page]


def everything() -> Ranking:
    """Return a ranking that needs every part of the page."""
    bounded = {"score": {"meaning": "all of it", "weight": 1.0, "low": 1.0, "high": 5.0}}
    records = ({**RECORD, "calibration": 1.0}, {**RECORD, "name": "another-judge", "axes": bounded})
    count = SHOWN + 30
    takes = [
        take(
            index,
            audio=notes(np.random.default_rng(index), 2.0 if index < 3 else 0.1),
            rewards={"toy.musicality": index / 7, "toy.alignment": None, "another-judge.score": 1 + index % 4},
            faults={"toy": "it broke"} if index == 1 else {},
            set_aside="silent: no sound at all" if index > SHOWN + 10 else None,
        )
        for index in range(count)
    ]
    takes[5] = take(5, rewards={})
    takes[6] = take(6, audio=None, set_aside=f"generation failed: {HOSTILE}")
    prompt = Prompt("a long story " * 60 + HOSTILE, "la la\n" * 200, notes(np.random.default_rng(99), 1.0))
    weights = {"toy.musicality": 0.25, "toy.alignment": 0.25, "another-judge.score": 0.5}
    told: dict[str, Any] = {
        "notes": ("the text is not in English",),
        "not_followed": ("lyrics",),
        "generator": "x" * 80,
    }
    return ranked(count, prompt, takes, rewards=records, weights=weights, **told)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--autoplay-policy=no-user-gesture-required", *(["--no-sandbox"] if os.getuid() == 0 else [])]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    plain = ranked(4, takes=[take(index) for index in range(3)] + [take(3, set_aside="silent: no sound at all")])
    each = {"plain": plain, "everything": everything(), "empty": ranked(1, takes=[take(0, audio=None, rewards={})])}
    return {name: write_report(ranking, folder / f"{name}.html") for name, ranking in each.items()}


@pytest.fixture
def shown(browser: Browser, pages: dict[str, Path]) -> Iterator[Shown]:
    """Give a function that shows a page, in a browser of its own; whatever it asks for or complains about fails."""
    asked: list[str] = []
    complaints: list[str] = []
    contexts = []

    def noted(request: Request) -> None:
        if not request.url.startswith(("file:", "data:")):
            asked.append(request.url)

    def show(name: str, **options: Any) -> Page:
        context = browser.new_context(**{"reduced_motion": "reduce", **options})
        contexts.append(context)
        context.route("http*://**/*", lambda route: route.abort())
        page = context.new_page()
        page.on("request", noted)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(pages[name].as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert not asked
    assert not complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["plain", "everything", "empty"])
def test_axe_finds_nothing(shown: Shown, name: str, scheme: str) -> None:
    page = shown(name, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("name", ["plain", "everything", "empty"])
def test_nothing_is_wider_than_the_screen(shown: Shown, name: str, width: int) -> None:
    page = shown(name, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    inside = "[...document.querySelectorAll('button, input, img, .wave, h1, h3, dd')]"
    assert page.evaluate(f"Math.max(...{inside}.map((one) => one.getBoundingClientRect().right))") <= width


def test_one_sounds_at_a_time_and_the_place_follows(shown: Shown) -> None:
    page = shown("plain")
    sounding = "[...document.querySelectorAll('audio')].map((one) => !one.paused)"
    page.get_by_role("button", name="Play seed 2").click()
    page.get_by_role("button", name="Pause seed 2").wait_for()
    assert sum(page.evaluate(sounding)) == 1
    page.get_by_role("button", name="Play seed 1").click()
    page.get_by_role("button", name="Pause seed 1").wait_for()
    assert page.get_by_role("button", name="Pause seed 2").count() == 0
    assert sum(page.evaluate(sounding)) == 1
    place = page.get_by_role("slider", name="Position in seed 1")
    page.wait_for_function("(one) => one.value > 0.3", arg=place.element_handle())
    page.get_by_role("button", name="Pause seed 1").click()
    assert not any(page.evaluate(sounding))
    assert place.get_attribute("aria-valuetext") in ("0:00 of 0:02", "0:01 of 0:02")


def test_what_ended_begins_again(shown: Shown) -> None:
    page = shown("plain")
    page.get_by_role("button", name="Play seed 0").click()
    page.get_by_role("button", name="Pause seed 0").wait_for()
    page.get_by_role("button", name="Play seed 0").wait_for(timeout=10_000)
    assert page.get_by_role("slider", name="Position in seed 0").input_value() == "0"


def test_it_can_be_used_by_keyboard(shown: Shown) -> None:
    page = shown("plain")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Play ")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Space")
    page.wait_for_function("[...document.querySelectorAll('audio')].some((one) => !one.paused)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "range"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Space")
    page.wait_for_function("[...document.querySelectorAll('audio')].every((one) => one.paused)")
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.value") == "0"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("Number(document.activeElement.value)") == pytest.approx(0.2)  # a tenth of what is short


def test_dashes_before_reasons_are_not_read_out(shown: Shown) -> None:
    heard = shown("everything").locator("main").aria_snapshot()
    assert "lies between" in heard and "listitem: –" not in heard and '"– ' not in heard


def test_without_its_script_the_players_of_the_browser_are_there(shown: Shown) -> None:
    page = shown("plain", java_script_enabled=False)
    assert page.locator("audio[controls]").count() == 4
    assert page.get_by_role("button").count() == 0


def test_all_that_is_folded_is_on_paper_and_no_player(shown: Shown) -> None:
    page = shown("everything", color_scheme="dark")
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("audio, button, input").filter(visible=True).count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_headings_and_landmarks_follow_each_other(shown: Shown) -> None:
    page = shown("everything")
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for role in ("banner", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1


def test_the_policy_lets_nothing_be_asked(browser: Browser, pages: dict[str, Path]) -> None:
    """What the page itself never does is refused by its policy, were it to be made to."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(pages["plain"].as_uri())
    ask = "fetch('https://example.invalid/').then(() => 'answered', () => 'refused')"
    with page.expect_event("requestfailed") as failed:
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=https://example.invalid/x.png>')")
    answers = page.evaluate(ask), failed.value.failure
    context.close()
    assert answers == ("refused", "csp")
