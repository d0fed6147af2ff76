"""Names, plugins, options."""

import importlib
import logging
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rerank
from rerank import automatic, registry
from rerank.catalogue import BUILT_IN
from rerank.cli.names import print_models, print_plugins
from rerank.errors import InvalidInput, MissingDependency, RerankError, UnknownName
from rerank.names.entry import Kind
from rerank.names.option import Option
from rerank.registry import Choice, entries, known_info, load_generator, load_reward, plugins, resolve
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


@pytest.mark.parametrize(
    ("allowed", "count"),
    [("", 0), (" ", 0), ("second", 0), ("toy-package", 1), ("second, Toy_Package", 1), ("second Toy.package", 1)],
)
def test_a_variable_limits_plugins(plugged: Path, monkeypatch: pytest.MonkeyPatch, allowed: str, count: int) -> None:
    install(plugged, "second", rewards="other = second:Toy")
    monkeypatch.setenv("RERANK_PLUGINS", allowed)
    assert len([entry for entry in plugins("generator") if entry.name == "toy"]) == count


def test_a_variable_that_names_no_package_with_plugins_is_warned_of_once(
    plugged: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RERANK_PLUGINS", "toy-packag, numpy toy-package")
    for _ in range(2):
        assert "toy" in entries("reward")
    told = "RERANK_PLUGINS names %r, and no such package with plugins is installed; there is: toy-package"
    assert sorted(record.message for record in caplog.records) == [told % "numpy", told % "toy-packag"]


def test_a_name_of_two_packages_is_refused_and_all_others_work(
    plugged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(plugged, "second", generators="toy = second:Toy\nother = toy_package:ToyGenerator")
    clash = r"toy-package and second each have a generator called 'toy'; uninstall all but one, or .*RERANK_PLUGINS$"
    with pytest.raises(RerankError, match=clash):
        load_generator("toy")
    assert isinstance(load_generator("other"), ToyGenerator)
    assert isinstance(load_reward("toy"), ToyReward)
    assert load_generator("synth").info.name == "synth"
    print_models(list(entries("generator").values()), list(entries("reward").values()))
    print_plugins(plugins("generator"))
    assert re.findall(f"broken: {clash}", capsys.readouterr().out, re.MULTILINE)
    monkeypatch.setenv("RERANK_PLUGINS", "toy-package")
    assert isinstance(load_generator("toy"), ToyGenerator)


def test_a_plugin_does_not_take_a_built_in_name(plugged: Path) -> None:
    install(plugged, "second", rewards="cmi-mini = second:Toy")
    with pytest.raises(RerankError, match="rerank-music and second each have a reward called 'cmi-mini'"):
        load_reward("cmi-mini")
    assert load_reward("auto", device="cpu").info.name == "cmi-mini"  # which names nothing: the built-in one


def test_a_broken_plugin_is_listed_as_broken(plugged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(plugged, "second", generators="gone = second_gone:Toy\nleaving = leaving:Toy")
    (plugged / "leaving.py").write_text("raise SystemExit(3)\n")
    expected = [
        "broken: generator 'gone' of second cannot be loaded: ModuleNotFoundError: No module named 'second_gone'",
        "broken: generator 'leaving' of second cannot be loaded: SystemExit: 3",
    ]
    print_plugins(plugins("generator"))
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("broken: ")] == expected
    print_models(plugins("generator"), [])
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("broken: ")] == expected


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
        automatic._Preference("big", needs_gpu=True, why="a GPU is here"),
        automatic._Preference("toy", needs_gpu=False, why="needs nothing"),
    )
    monkeypatch.setattr(automatic, "_GENERATORS", choices)
    monkeypatch.setattr(automatic, "_has_gpu", lambda: gpu)
    with caplog.at_level(logging.INFO, "rerank"):
        load_generator("auto")
    assert [record.message.split(":")[0] for record in caplog.records] == [f"generator {expected}"]


def test_auto_is_decided_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rerank"):
        chosen = resolve("generator", "auto")
        assert known_info("generator", chosen) == entries("generator")["synth"].info
        assert registry.load("generator", chosen, {}).info.name == "synth"
        assert registry.load("generator", chosen, {"flawless": True}).info.options == {"flawless": True}
    assert len(caplog.records) == 1


def test_a_choice_keeps_its_options(plugged: Path) -> None:
    chosen = resolve("generator", Choice("toy", {"pause": 0.5}))
    assert isinstance(chosen, Choice) and chosen.entry is not None and chosen.entry.package == "toy-package"
    assert resolve("generator", chosen) is chosen
    generator = registry.load("generator", chosen, {})
    assert isinstance(generator, ToyGenerator) and generator.pause == 0.5
    assert resolve("generator", generator) is generator


@pytest.mark.parametrize("device", ["banana", "cuda:x", "CPU", "", None, 0])
def test_what_is_no_device_is_refused_also_beside_what_is_loaded(device: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^device must be 'auto', 'cpu', .* got {device!r}$"):
        registry.load("reward", ToyReward(), {}, offered={"device": device})


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:12", "mps"])
def test_devices_that_other_machines_have_are_names(device: str) -> None:
    toy = ToyReward()
    assert registry.load("reward", toy, {}, offered={"device": device}) is toy


def test_options_are_listed_with_what_they_mean(plugged: Path) -> None:
    listed = {option.name: option for option in registry.options("generator", "toy")}
    assert listed["pause"] == Option("pause", 0.0, "seconds to wait for before each candidate.")
    assert listed["conditions"].default == ("text",)
    with pytest.raises(UnknownName, match="did you mean 'synth'"):
        registry.options("generator", "sinth")


@pytest.mark.parametrize(
    ("kind", "name"),
    [(entry.kind, entry.name) for kind in ("generator", "reward") for entry in BUILT_IN if entry.kind == kind],
)
def test_every_option_of_what_is_built_in_says_what_it_means(kind: Kind, name: str) -> None:
    listed = registry.options(kind, name)
    assert not {"name", "repository"} & {option.name for option in listed if name.startswith("musicgen")}
    for option in listed:
        assert len(option.meaning) > 15 and "see `" not in option.meaning, option
        assert not option.required


def test_auto_prefers_only_what_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_PLUGINS", "")
    assert {preference.name for preference in automatic._GENERATORS} <= set(entries("generator"))
    assert {automatic.PUBLISHED, automatic.SMALL} <= set(entries("reward"))


def test_what_is_listed_is_what_is_loaded() -> None:
    known = entries("generator")["synth"].info
    assert replace(load_generator("synth").info, version="", options={}) == known
    loaded = load_reward("cmi-mini", device="cpu").info
    assert len(loaded.version) == 12
    assert (loaded.device, loaded.precision, loaded.batch_size) == ("cpu", "float32", 1)
    known_reward = entries("reward")["cmi-mini"].info
    assert loaded.calibration is not None and loaded.norms is not None
    loaded = replace(loaded, calibration=None, norms=None)
    assert replace(loaded, version="", options={}, device="", precision="", batch_size=4) == known_reward
