"""What the README shows is run as it stands there."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rerank
from rerank.cli import app
from rerank.registry import options
from rerank.testing import check_reward
from tests.conftest import ROOT, install

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if re.match("rerank (?!eval|train|ui)", line)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples name, and the current one."""
    monkeypatch.chdir(tmp_path)
    takes = rerank.generate("energetic funk with slap bass", n=2, duration=1.5)
    (tmp_path / "takes").mkdir()
    for candidate in takes:
        candidate.save(tmp_path / "takes" / f"{candidate.index}.wav")
    takes.best.save(tmp_path / "demo.mp3")
    takes.best.save(tmp_path / "take.wav")
    return tmp_path


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    subprocess.run([sys.executable, "example.py"], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert (tmp_path / "best.wav").exists()


def test_the_example_of_a_generator_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "generators.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"```py\n(.*?)```", text, re.DOTALL) if "rerank.wrap" in block)
    (tmp_path / "example.py").write_text(example + "assert len(ranking.candidates) == 10\n", encoding="utf-8")
    subprocess.run([sys.executable, "example.py"], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def test_the_example_of_a_reward_model_of_ones_own_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"```py\n(.*?)```", text, re.DOTALL) if "rerank.wrap_reward" in block)
    (tmp_path / "example.py").write_text(example + "assert len(ranking.candidates) == 10\n", encoding="utf-8")
    path = {"PYTHONPATH": str(ROOT), "PATH": ""}
    subprocess.run([sys.executable, "example.py"], cwd=tmp_path, env=path, check=True)


def test_the_reward_model_of_a_plugin_is_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class Punch" in block)
    (tmp_path / "my_package.py").write_text(code, encoding="utf-8")
    points = tomllib.loads(table)["project"]["entry-points"]["rerank.rewards"]
    install(tmp_path, "my-package", rewards="\n".join(f"{name} = {target}" for name, target in points.items()))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("RERANK_PLUGINS", raising=False)
    reward = rerank.load_reward("punch", floor=0.01)
    check_reward(reward)
    assert reward.info.options == {"floor": 0.01}
    (option,) = options("reward", "punch")
    assert option.default == 1e-3 and option.meaning.startswith("added to the level")


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 5


def test_the_commands_run_one_after_the_other(folder: Path) -> None:
    for command in COMMANDS:
        arguments = [
            str(path)
            for word in shlex.split(command)[1:]
            for path in (sorted(folder.glob(word)) if "*" in word else [word])
        ]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{command}: {done.output}"


REPORTS = re.findall(r"`rerank (eval [\w-]+)` \(kept in \[docs/([\w-]+)\.json\]", README)


@pytest.mark.parametrize(("command", "name"), REPORTS)
def test_every_figure_of_a_benchmark_is_in_its_report(command: str, name: str) -> None:
    told = README.split(f"(docs/{name}.json)")[1].split("\n## ")[0].split("(kept in ")[0]
    told = re.sub(r"`[^`]*`|\([^()]*\)", "", told)
    figures = re.findall(r"(?<![\w.])(\d+(?:\.\d+)*)( %)?", told)
    known = [*_values(json.loads((ROOT / "docs" / f"{name}.json").read_text(encoding="utf-8")))]
    assert len(figures) >= 3, told
    for figure, percent in figures:
        scale = 100 if percent else 1
        assert any(_rounded(value, figure, scale) for value in known), f"{figure}{percent} is not in docs/{name}.json"
    assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0


def test_all_reports_are_told_of() -> None:
    assert {name for _, name in REPORTS} == {path.stem for path in (ROOT / "docs").glob("*.json")}


def _values(document: Any) -> Iterator[str | float]:
    """Return all names and values of a report."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield name
            yield from _values(value)
    elif isinstance(document, list):
        for value in document:
            yield from _values(value)
    else:
        yield document


def _rounded(value: str | float, figure: str, scale: int) -> bool:
    """Return whether a figure is a value of a report as one may write it."""
    if isinstance(value, str):
        return value == figure
    digits = len(figure.partition(".")[2])
    if not digits and isinstance(value, float) and scale * value < 10:
        return False  # one digit is too little of a measurement
    return figure.count(".") < 2 and f"{scale * value:.{digits}f}" == figure


def test_nothing_is_left_to_fill_in_and_links_lead_somewhere() -> None:
    assert not re.findall(r"<!--|\{\w+\}", README)
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        for link in (link for link in links if not link.startswith("http")):
            file, _, heading = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), f"{page}: {link}"
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
            known = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert not heading or heading in known, f"{page}: {link}"
