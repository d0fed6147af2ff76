"""Fingerprints of weights: what tells two models of one name apart."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rerank.errors import WeightsError
from rerank.models.hub import files_of
from rerank.models.weights import fingerprint, fingerprint_loaded
from tests.conftest import ROOT


def test_a_fingerprint_depends_on_every_file_and_on_what_is_said_beside(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(b"weights")
    first = fingerprint(files, 1)
    assert len(first) == 12 and fingerprint(files, 1) == first
    files[1].write_bytes(b"weightz")
    assert len({first, fingerprint(files, 1), fingerprint(files, 2), fingerprint(files[:1], 1)}) == 4


def test_the_cache_of_the_hub_says_the_digest_of_a_large_file(tmp_path: Path) -> None:
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(b"weights")
    blob = tmp_path / hashlib.sha256(b"weights").hexdigest()
    blob.write_bytes(b"not read")
    linked = tmp_path / "linked.safetensors"
    linked.symlink_to(blob)
    assert fingerprint([linked]) == fingerprint([copy])


def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^cannot read .*gone: FileNotFoundError"):
        fingerprint([tmp_path / "gone"])


def test_files_are_found_by_patterns_in_one_order(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "vae/c.safetensors", "vae/c.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = files_of(tmp_path, ["vae/*.safetensors", "*.json", "a.*"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.json", "b.json", "vae/c.safetensors"]


def test_loaded_weights_are_told_apart_by_each_bit_type_and_name() -> None:
    linear, norm = torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)
    module = torch.nn.Sequential(linear, norm)
    found = {fingerprint_loaded(module), fingerprint_loaded(linear), fingerprint_loaded(linear, norm)}
    with torch.no_grad():
        linear.weight[1, 1] = torch.nextafter(linear.weight[1, 1], torch.tensor(9.0))
    found |= {fingerprint_loaded(module), fingerprint_loaded(module.to(torch.bfloat16))}
    assert len(found) == 5


def test_shapes_without_values_take_no_memory_and_load_no_compiler() -> None:
    code = (
        "import sys\nfrom torch import nn\nfrom rerank.models.weights import without_values\n"
        "with without_values():\n    made = nn.Sequential(nn.Embedding(10**6, 512), nn.Linear(512, 8))\n"
        "assert all(one.is_meta for one in made.parameters())\nassert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
