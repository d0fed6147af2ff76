"""What is on disk, what the package says it holds, and what lands in a wheel are the same."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

import rerank
from tests.conftest import ROOT

LINKED = ("generators", "ui", "eval")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources() -> set[str]:
    """Return the Python files of the project, by the path they have in a wheel."""
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rerank").rglob("*.py")}
    found |= {f"rerank/{path.relative_to(ROOT).as_posix()}" for one in LINKED for path in (ROOT / one).rglob("*.py")}
    return found


def test_every_folder_with_code_is_a_package_that_is_listed() -> None:
    listed = set(project()["tool"]["setuptools"]["packages"])
    assert listed == {str(Path(path).parent).replace("/", ".") for path in sources()}


def test_the_links_lead_where_they_should() -> None:
    assert (ROOT / "src" / "rerank").is_symlink()
    assert (ROOT / "src" / "rerank").resolve() == ROOT / "rerank"
    for name in LINKED:
        assert (ROOT / "rerank" / name).is_symlink()
        assert (ROOT / "rerank" / name).resolve() == ROOT / name


def test_the_version_is_the_newest_of_the_changelog() -> None:
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")]
    assert headings[0] == "## [Unreleased]"
    assert headings[1].startswith(f"## [{rerank.__version__}]")


def test_the_tested_set_pins_every_direct_dependency() -> None:
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    table = project()["project"]
    direct = [*table["dependencies"], *table["optional-dependencies"]["dev"]]
    assert {one.split(">=")[0].lower().replace("_", "-") for one in direct} <= pinned


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what a package is made from, so that nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("rerank", "src", *LINKED):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def wheel(copy: Path) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((copy / "dist").glob("*.whl"))


def test_the_wheel_holds_every_module_and_data_file_and_no_other_top_level_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    code = {name for name in names if name.endswith(".py")}
    assert code == sources()
    files = ("model.safetensors", "config.json", "vocabulary.json", "calibration.json")
    weights = {f"rerank/rewards/cmi-mini/{name}" for name in files}
    assert {"rerank/py.typed", "rerank/corpus/musiccaps.csv", *weights} <= set(names)
    assert zipfile.ZipFile(wheel).getinfo("rerank/rewards/cmi-mini/model.safetensors").file_size <= 16_000_000
    assert {name.split("/")[0] for name in names} == {"rerank", f"rerank_music-{rerank.__version__}.dist-info"}


def test_the_installed_wheel_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    done = subprocess.run(
        [sys.executable, "-c", "import rerank; print(rerank.__file__, rerank.__version__)"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{site / 'rerank' / '__init__.py'} {rerank.__version__}\n"


_PLUGIN = """
import rerank
from rerank import generators
from rerank.protocols import Axis

ranking: rerank.Ranking = rerank.generate("a hum")
reward: rerank.Reward = rerank.wrap_reward(len, axes={"length": Axis(meaning="how long it is")}, sample_rate=16000)
rerank.genrate("a hum")
generators.Audiocraf
rerank.generate("a hum", n="ten")
"""


def test_a_plugin_author_has_types_from_an_editable_install(copy: Path, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place, with_pip=False)
    python, paths = place / "bin" / "python", sysconfig.get_paths(vars={"base": str(place), "platbase": str(place)})
    # what the package and mypy need, from here; but not this checkout, which is on the path of no other place
    Path(paths["purelib"], "tested.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    flags = ["--no-build-isolation", "--no-index", "--ignore-installed", "--disable-pip-version-check"]
    done = subprocess.run([*command, *flags, "--editable", str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "plugin.py").write_text(_PLUGIN)
    found = subprocess.run(
        [str(python), "-m", "mypy", "--strict", "--no-error-summary", "plugin.py"],
        cwd=tmp_path,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.removeprefix("plugin.py:").split(": error: ") for line in found.stdout.splitlines()]
    expected = {"8": 'Module has no attribute "genrate"', "9": 'has no attribute "Audiocraf"', "10": 'Argument "n"'}
    assert [number for number, _ in lines] == [*expected], found.stdout + found.stderr
    assert all(expected[number] in told for number, told in lines), found.stdout
    # and no other folder of the repository by its name
    for name in ("generators", "ui", "eval", "tests"):
        code = f"import {name}"
        done = subprocess.run(
            [str(python), "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert f"No module named '{name}'" in done.stderr
