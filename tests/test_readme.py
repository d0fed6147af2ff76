"""What the README shows is run as it stands there."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

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


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_runs(command: str, folder: Path) -> None:
    arguments = [
        str(path)
        for word in shlex.split(command)[1:]
        for path in (sorted(folder.glob(word)) if "*" in word else [word])
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output


def test_every_number_of_the_benchmark_has_its_command() -> None:
    assert "rerank eval speed" in README and "rerank eval agreement" in README


def test_nothing_is_left_to_fill_in_and_links_lead_somewhere() -> None:
    assert not re.findall(r"<!--|\{\w+\}", README)
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        assert all((page.parent / link).exists() for link in links if not link.startswith("http")), page
