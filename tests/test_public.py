"""The public names, and what importing them costs."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import rerank
from tests.conftest import ROOT

HEAVY = ("torch", "transformers", "gradio", "scipy", "pandas", "matplotlib")


def test_all_is_sorted_and_true() -> None:
    assert rerank.__all__ == sorted(rerank.__all__)
    assert len(rerank.__all__) <= 20
    assert set(rerank.__all__) == set(rerank._HOMES)
    for name in rerank.__all__:
        value = getattr(rerank, name)
        assert value is getattr(importlib.import_module(rerank._HOMES[name]), name)
        assert name in dir(rerank)
    with pytest.raises(AttributeError, match="has no attribute 'generat'"):
        _ = rerank.generat  # type: ignore[attr-defined]


def _modules_after(code: str) -> set[str]:
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    return set(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import rerank",
        "from rerank import *",
        "import rerank.cli",
        "from rerank.registry import entries; entries('generator'); entries('reward')",
        "import rerank.testing",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(code: str) -> None:
    assert not _modules_after(code) & set(HEAVY)


def test_every_error_is_a_rerank_error_with_one_line_of_help() -> None:
    errors = importlib.import_module("rerank.errors")
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, rerank.RerankError)
            assert value.__doc__ and name in (errors.__doc__ or "")


def test_every_module_says_what_it_is_for() -> None:
    for module in pkgutil.iter_modules(rerank.__path__, "rerank."):
        if module.name != "rerank.__main__":
            assert importlib.import_module(module.name).__doc__
