"""Stored features: made once, and whole or not there."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rerank.protocols import Progress
from rerank.training.features import stored


def test_each_shard_is_made_once(tmp_path: Path) -> None:
    made: list[int] = []
    seen: list[Progress] = []

    def make(index: int) -> NDArray[np.float16]:
        made.append(index)
        if len(made) == 3:
            raise KeyboardInterrupt
        return np.full((2, 3), index, np.float16)

    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path / "new", 3, make, seen.append)
    assert [(one.done, one.total) for one in seen] == [(1, 3), (2, 3)]
    found = stored(tmp_path / "new", 3, make, seen.append)
    assert made == [0, 1, 2, 2] and seen[-1] == Progress("listening", 3, 3)
    assert [array.tolist() for array in found] == [np.full((2, 3), index).tolist() for index in range(3)]
