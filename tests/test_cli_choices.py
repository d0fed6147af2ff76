"""What the text of an option stands for."""

from pathlib import Path

import pytest
import typer

from rerank.cli import choices
from rerank.cli.choices import generator, rewards, typed
from rerank.errors import UnknownName
from rerank.registry import Choice
from tests.conftest import install

pytestmark = pytest.mark.usefixtures("plugged")


@pytest.fixture
def tuned(plugged: Path) -> None:
    """Reward models and a generator with options, installed as a plugin."""
    install(
        plugged,
        "tuned-package",
        generators="tuned = tuned_package:make\nfree = tuned_package:free",
        rewards="tuned = tuned_package:judge\nother.one = tuned_package:judge",
    )
    (plugged / "tuned_package.py").write_text(
        "from tests.conftest import ToyGenerator, ToyReward\n"
        "def make(*, guidance=3.0, steps=8, fast=True, mode='plain', note=None, path=None): return ToyGenerator()\n"
        "def free(**options): return ToyGenerator()\n"
        "def judge(*, strategy='whole', limit=1.5, path=None, text_path=None, cache=None): return ToyReward()\n"
    )


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("4", 3, 4),
        ("-4", 3, -4),
        ("4.5", 3, 4.5),
        ("4", 3.0, 4.0),
        ("1e3", 3.0, 1000.0),
        ("none", 3.0, None),
        ("None", None, None),
        ("off", True, False),
        ("TRUE", False, True),
        ("on", None, True),
        ("4", None, 4),
        ("-0.5", None, -0.5),
        ("1e-3", None, 0.001),
        ("nan", None, "nan"),
        ("e4", None, "e4"),
        ("mean", None, "mean"),
        ('"4"', None, "4"),
        ('"none"', 3, "none"),
        ("4", "plain", "4"),
        ("none", "plain", "none"),
        ("a=b", None, "a=b"),
        ("", None, ""),
    ],
)
def test_a_text_becomes_a_value_of_the_type_of_its_default(text: str, default: object, value: object) -> None:
    found = typed(text, default)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "default"), [("much", 3), ("2", True), ("yes", False), ("", 3.0)])
def test_a_text_that_is_no_such_value_is_refused(text: str, default: object) -> None:
    with pytest.raises(typer.BadParameter, match=r"--x=.* must be (a number|true or false \(on or off\))"):
        typed(text, default, "--x")


@pytest.mark.usefixtures("tuned")
def test_a_generator_gets_its_options() -> None:
    assert generator("tuned", None) == "tuned"
    given = ["guidance=4", "steps=20", "fast=off", "mode=7", "note=a=b", "path=mine"]
    chosen = generator("tuned", given)
    assert isinstance(chosen, Choice)
    assert chosen.options == {
        "guidance": 4.0,
        "steps": 20,
        "fast": False,
        "mode": "7",
        "note": "a=b",
        "path": Path("mine"),
    }
    free = generator("free", ["anything=3"])
    assert isinstance(free, Choice) and free.options == {"anything": 3}


@pytest.mark.usefixtures("tuned")
def test_an_option_that_there_is_not_is_guessed_before_anything_is_loaded() -> None:
    with pytest.raises(UnknownName, match="option of generator 'tuned': 'guidence'; did you mean 'guidance'"):
        generator("tuned", ["guidence=4"])
    with pytest.raises(UnknownName, match="option of reward 'tuned': 'stratgy'; did you mean 'strategy'"):
        rewards(["tuned"], options=["stratgy=mean"])
    with pytest.raises(UnknownName, match="unknown generator 'tund'; did you mean 'tuned'"):
        generator("tund", ["guidance=4"])
    with pytest.raises(typer.BadParameter, match="--generator-option 'guidance' must be NAME=VALUE"):
        generator("tuned", ["guidance"])
    with pytest.raises(typer.BadParameter, match="guidance is given twice, as 3 and 4"):
        generator("tuned", ["guidance=3", "guidance=4"])


@pytest.mark.usefixtures("tuned")
def test_reward_models_get_their_options() -> None:
    assert rewards(None) == "auto" and rewards(None, default=None) is None
    assert rewards(["toy"]) == "toy" and rewards(["toy", "tuned"]) == ["toy", "tuned"]
    one = rewards(["tuned"], path=Path("a"), cache=Path("b"), options=["strategy=mean", "tuned.text_path=c"])
    assert isinstance(one, Choice)
    assert one.options == {"strategy": "mean", "text_path": Path("c"), "path": Path("a"), "cache": Path("b")}
    several = rewards(["toy", "tuned", "other.one"], options=["other.one.limit=2", "tuned.limit=3"])
    assert isinstance(several, list) and several[0] == "toy"
    assert [one.options for one in several[1:] if isinstance(one, Choice)] == [{"limit": 3.0}, {"limit": 2.0}]
    cached = rewards(["cmi-rm", "toy", "mulan"], cache=Path("c"))
    assert isinstance(cached, list) and cached[1] == "toy"
    assert [one.options for one in cached if isinstance(one, Choice)] == [{"cache": Path("c")}] * 2


@pytest.mark.usefixtures("tuned")
@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["toy", "toy"], {}, "--reward toy is given twice"),
        (["toy", "tuned"], {"options": ["limit=3"]}, "of which reward model. Write toy.limit or tuned.limit"),
        (["toy", "tuned"], {"path": Path("a")}, "use --reward-option NAME.path=DIR"),
        (["toy", "cmi-mini"], {"cache": Path("a")}, "neither toy nor cmi-mini keeps what it encodes"),
        (
            ["cmi-rm", "mulan"],
            {"cache": Path("a"), "options": ["mulan.cache=b"]},
            "give --reward-cache or --reward-option cache=..., not both",
        ),
        (["auto", "cmi-rm"], {"cache": Path("a")}, "name the reward model that the options are for"),
        (["tuned"], {"options": ["limit=3", "tuned.limit=4"]}, "--reward-option limit is given twice"),
        (["tuned"], {"path": Path("a"), "options": ["path=b"]}, "give --reward-path or --reward-option path=..."),
        (None, {"path": Path("a"), "default": None}, "name the reward model that the options are for"),
    ],
)
def test_wrong_options_of_reward_models_are_refused(
    names: list[str] | None, given: dict[str, object], message: str
) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        rewards(names, **given)  # type: ignore[arg-type]


def test_filters_that_are_not_given_are_none() -> None:
    assert choices.filters(None, None) is None and choices.weights(None) is None
    found = choices.filters(["silent=off"], ["musicality=1"])
    assert found is not None and (found.silent, found.floors) == (None, {"musicality": 1.0})
