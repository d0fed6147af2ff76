"""Names, plugins, options."""

import importlib
import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rerank
from rerank import registry
from rerank.catalogue import Kind
from rerank.errors import InvalidInput, MissingDependency, RerankError, UnknownName
from rerank.registry import entries, load_generator, load_reward, plugins
from tests.conftest import ToyGenerator, ToyReward, install


def test_built_in_names_are_listed_without_importing_them() -> None:
    assert "synth" in entries("generator")
    assert "cmi-mini" in entries("reward")


def test_a_folder_called_auto_is_not_meant_by_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "auto").mkdir()
    assert load_generator("auto").info.name == "synth"


def test_a_plugin_is_listed_without_importing_it_and_loaded_by_name(plugged: Path) -> None:
    sys.modules.pop("toy_package", None)
    entry = entries("generator")["toy"]
    assert (entry.package, entry.version) == ("toy-package", "1.5")
    assert "toy_package" not in sys.modules
    generator = load_generator("toy", pause=0.25)
    assert isinstance(generator, ToyGenerator) and generator.pause == 0.25
    assert isinstance(load_reward("toy"), ToyReward)


@pytest.mark.parametrize(("allowed", "count"), [("", 0), ("other", 0), ("toy-package", 1), ("other, Toy_Package", 1)])
def test_a_variable_limits_plugins(plugged: Path, monkeypatch: pytest.MonkeyPatch, allowed: str, count: int) -> None:
    monkeypatch.setenv("RERANK_PLUGINS", allowed)
    assert len([entry for entry in plugins("generator") if entry.name == "toy"]) == count


def test_two_packages_with_one_name_are_an_error(plugged: Path) -> None:
    install(plugged, "second", generators="toy = second:Toy")
    with pytest.raises(RerankError, match=r"both .* have a generator called 'toy'; uninstall one.*RERANK_PLUGINS="):
        entries("generator")


def test_a_plugin_may_not_take_a_built_in_name(plugged: Path) -> None:
    install(plugged, "second", rewards="cmi-mini = second:Toy")
    with pytest.raises(RerankError, match="both rerank-music and second have a reward called 'cmi-mini'"):
        entries("reward")


def test_unknown_names_and_options_are_guessed(plugged: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown generator 'sinth'; did you mean 'synth'\? Known: .*toy"):
        load_generator("sinth")
    with pytest.raises(UnknownName, match=r"unknown reward 'cmi_mini'; did you mean 'cmi-mini'"):
        load_reward("cmi_mini")
    with pytest.raises(
        UnknownName, match=r"option of generator 'toy': 'paus'; did you mean 'pause'\? Known: change, cond"
    ):
        load_generator("toy", paus=1)


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"holds no reward that is known by its files \(vocabulary.json for cmi-mini"
    ):
        load_reward(tmp_path)
    with pytest.raises(InvalidInput, match="there is no folder '.*nothing/here'"):
        load_reward("nothing/here")
    shutil.copytree(Path(rerank.__file__).parent / "rewards" / "cmi-mini", tmp_path / "mine")
    for folder in (tmp_path / "mine", str(tmp_path / "mine")):
        assert load_reward(folder, device="cpu").info == load_reward("cmi-mini", device="cpu").info


def test_loaded_objects_are_checked_and_kept() -> None:
    generator, reward = ToyGenerator(), ToyReward()
    assert load_generator(generator) is generator
    assert load_reward(reward) is reward
    wrong: list[tuple[Any, str]] = [
        (ToyGenerator, r"got ToyGenerator, which is a class; pass ToyGenerator\(\)"),
        (reward, "got ToyReward, which lacks generate"),
        (3, "got int, which lacks info, generate"),
    ]
    for value, message in wrong:
        with pytest.raises(InvalidInput, match=message):
            load_generator(value)
    with pytest.raises(InvalidInput, match=r"options \['pause'\] need a generator given by name"):
        load_generator(generator, pause=1)


def test_broken_plugins_say_whose_fault_it_is(plugged: Path) -> None:
    install(
        plugged,
        "second",
        generators="gone = second_gone:Toy\nhollow = toy_package:Nothing\nneedy = second_needy:Toy",
    )
    (plugged / "second_needy.py").write_text("import not_there\n")
    with pytest.raises(
        RerankError, match="generator 'gone' of second cannot be loaded: .*No module named 'second_gone'"
    ):
        load_generator("gone")
    with pytest.raises(RerankError, match="'hollow' of second cannot be loaded: .*Nothing"):
        load_generator("hollow")
    with pytest.raises(MissingDependency, match="'needy' of second needs 'not_there', which is not installed; run:"):
        load_generator("needy")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def Toy():\n    raise OSError('no\\nlicence')", "cannot be loaded: OSError: no licence"),
        ("def Toy(key):\n    pass", "cannot be loaded: TypeError: .*missing 1 required positional argument: 'key'"),
        ("Toy = 3", "cannot be loaded: faulty:Toy is a int; expected a class or a function"),
        ("def Toy(:", "cannot be loaded: SyntaxError: "),
        ("1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("def Toy():\n    return 3", "cannot be loaded: it makes a int, which lacks info, generate"),
    ],
)
def test_a_plugin_that_raises_costs_one_line(
    plugged: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    install(plugged, "second", generators="toy2 = faulty:Toy")
    (plugged / "faulty.py").write_text(code)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    with pytest.raises(RerankError, match=f"^generator 'toy2' of second {message}") as caught:
        load_generator("toy2")
    assert "\n" not in str(caught.value)


def test_an_object_without_info_is_refused() -> None:
    generator = ToyGenerator()
    generator.info = None  # type: ignore[assignment]
    with pytest.raises(InvalidInput, match="got ToyGenerator, whose info is a NoneType; expected a rerank.protocols.G"):
        load_generator(generator)


@pytest.mark.parametrize(("gpu", "expected"), [(True, "big"), (False, "toy")])
def test_auto_takes_the_first_that_runs_here_and_says_so(
    plugged: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, gpu: bool, expected: str
) -> None:
    install(plugged, "second", generators="big = toy_package:ToyGenerator")
    choices = (
        registry._Preference("big", needs_gpu=True, why="a GPU is here"),
        registry._Preference("toy", needs_gpu=False, why="needs nothing"),
    )
    monkeypatch.setattr(registry, "_PREFERENCES", {"generator": choices})
    monkeypatch.setattr(registry, "_has_gpu", lambda: gpu)
    with caplog.at_level(logging.INFO, "rerank"):
        load_generator("auto")
    assert [record.message.split(":")[0] for record in caplog.records] == [f"generator {expected}"]


def test_auto_prefers_only_what_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_PLUGINS", "")
    kinds: tuple[Kind, ...] = ("generator", "reward")
    for kind in kinds:
        assert {preference.name for preference in registry._PREFERENCES[kind]} <= set(entries(kind))


def test_what_is_listed_is_what_is_loaded() -> None:
    assert load_generator("synth").info == entries("generator")["synth"].info
    loaded = load_reward("cmi-mini", device="cpu").info
    assert len(loaded.version) == 12 and replace(loaded, version="") == entries("reward")["cmi-mini"].info
