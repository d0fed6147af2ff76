"""Batches: whatever fails costs one item, memory that runs out makes them smaller, and what stops gets through."""

import gc
import logging
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rerank.batching import Batches, OnStep, Passing, in_batches, is_out_of_memory
from rerank.protocols import Progress
from tests.conftest import ROOT


class Maker:
    """Makes ten times each item, and fails on a batch with one that it cannot make; keeps the batches it was given."""

    def __init__(self, failing: Sequence[int] = (), error: Exception | None = None, most: int = 1000) -> None:
        self.failing, self.error, self.most = failing, error or RuntimeError("bad item"), most
        self.batches: list[list[int]] = []

    def __call__(self, batch: Sequence[int], on_step: OnStep = lambda done, steps: None) -> list[int]:
        self.batches.append([*batch])
        on_step(1, 2)
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if set(batch) & set(self.failing):
            raise self.error
        on_step(2, 2)
        return [10 * item for item in batch]

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


@given(st.integers(0, 30), st.integers(1, 9), st.sets(st.integers(0, 29)))
def test_whatever_fails_costs_itself_only(count: int, size: int, failing: set[int]) -> None:
    maker = Maker([*failing], error=ValueError("bad"))
    made = list(Batches(size)(range(count), maker, alone=lambda error: -1))
    assert made == [-1 if item in failing else 10 * item for item in range(count)]
    assert max(maker.sizes, default=0) <= size


def test_a_failure_halves_its_batch_and_no_other() -> None:
    maker = Maker([2])
    assert list(Batches(8)(range(24), maker, alone=lambda error: -1))[:4] == [0, 10, -1, 30]
    first = [[*range(8)], [0, 1, 2, 3], [0, 1], [2, 3], [2], [3], [4, 5, 6, 7]]
    assert maker.batches == [*first, [*range(8, 16)], [*range(16, 24)]]


def test_a_single_item_raises_its_error_where_nothing_stands_for_it() -> None:
    maker = Maker([2])
    made = in_batches(range(8), 4, maker)
    assert [next(made), next(made)] == [0, 10]
    with pytest.raises(RuntimeError, match="bad item"):
        next(made)
    assert maker.batches == [[0, 1, 2, 3], [0, 1], [2, 3], [2]]


def test_where_memory_runs_out_batches_stay_small(caplog: pytest.LogCaptureFixture) -> None:
    maker, batches = Maker(most=3), Batches(8)
    assert list(batches(range(9), maker)) == [10 * item for item in range(9)]
    assert maker.sizes == [8, 4, 2, 2, 2, 2, 1]
    assert "8 candidates at once do not fit the memory: going on with 4" in caplog.text
    list(batches(range(3), maker))
    assert maker.sizes[7:] == [2, 1]


def test_a_single_item_that_does_not_fit_the_memory_fails_by_itself() -> None:
    def make(batch: Sequence[int]) -> list[int]:
        if 5 in batch:
            raise MemoryError("5 is too long")
        return [*batch]

    assert list(Batches(4)(range(8), make, alone=str)) == [0, 1, 2, 3, 4, "5 is too long", 6, 7]


def test_what_is_finished_is_given_at_once_and_not_made_again() -> None:
    made: list[int] = []

    def one_by_one(batch: Sequence[int]) -> Iterator[int]:
        for item in batch:
            if item == 2:
                raise RuntimeError("bad item")
            made.append(item)
            yield item

    results = Batches(4)(range(6), one_by_one, alone=lambda error: -1)
    assert next(results) == 0 and made == [0]
    assert list(results) == [1, -1, 3, 4, 5]
    assert made == [0, 1, 3, 4, 5]


def test_what_a_failed_batch_held_is_free_before_the_next_try(caplog: pytest.LogCaptureFixture) -> None:
    held: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def make(batch: Sequence[int]) -> list[int]:
        alive.append(sum(one() is not None for one in held))
        tensors = np.zeros(1000)
        held.append(weakref.ref(tensors))
        if 2 in batch:
            try:
                raise RuntimeError("bad item")
            except RuntimeError as error:
                kept = error  # a circle: the error knows the frame, and the frame the error
                raise ValueError("worse") from kept
        return [*batch]

    gc.disable()  # so that nothing but the last reference frees
    try:
        # a log keeps the error with all frames it came through
        with caplog.at_level(logging.DEBUG, "rerank"):
            list(Batches(4)(range(4), make, alone=lambda error: -1))
    finally:
        gc.enable()
    assert any(record.exc_info for record in caplog.records)
    assert alive == [0] * 5


def test_batches_are_filled_up_with_their_last_item() -> None:
    maker = Maker([2])
    assert list(Batches(4, filled=True)(range(6), maker, alone=lambda error: -1)) == [0, 10, -1, 30, 40, 50]
    assert maker.batches == [[0, 1, 2, 3], [0, 1, 1, 1], [2, 3, 3, 3], [2] * 4, [3] * 4, [4, 5, 5, 5]]
    short = Maker(most=2)
    assert list(Batches(8, filled=True)([7], short)) == [70]
    assert short.batches == [[7] * 8, [7] * 4, [7] * 2]


class Asked(Exception):
    """What a caller raises to stop."""


@pytest.mark.parametrize(
    "error", [Asked(), Asked("x"), MemoryError("of the caller"), KeyboardInterrupt(), SystemExit()]
)
def test_what_on_progress_raises_gets_through_at_once(error: BaseException) -> None:
    def stop(progress: Progress) -> None:
        raise error

    maker = Maker()
    with pytest.raises(type(error)) as caught:
        list(in_batches(range(8), 4, maker, stop))
    assert caught.value is error and maker.sizes == [4]


def test_what_on_progress_raises_gets_past_those_who_catch_everything() -> None:
    def deaf(batch: Sequence[int], on_step: OnStep) -> list[int]:
        try:
            on_step(1, 2)
        except Exception as error:
            raise RuntimeError("the batch failed") from error
        return [*batch]

    cause = KeyError("why")

    def stop(progress: Progress) -> None:
        raise Asked from cause

    with pytest.raises(Asked) as caught:
        list(in_batches(range(8), 4, deaf, stop))
    assert caught.value.__cause__ is cause


def test_an_error_in_a_passing_is_raised_as_it_is() -> None:
    def make(batch: Sequence[int]) -> list[int]:
        raise Passing(ValueError("of no item"))

    with pytest.raises(ValueError, match="of no item"):
        list(Batches(4)(range(8), make, alone=lambda error: -1))


@pytest.mark.parametrize("filled", [False, True])
def test_progress_goes_up_to_the_end_whatever_fails(filled: bool) -> None:
    for maker in (Maker([6]), Maker(most=1), Maker()):
        reports: list[Progress] = []
        made = in_batches(range(7), 4, maker, reports.append, filled=filled)
        assert [next(made) for _ in range(6)] == [10 * seed for seed in range(6)]
        if maker.failing:
            with pytest.raises(RuntimeError):
                list(made)
        else:
            assert list(made) == [60] and reports[-1].done == reports[-1].total
        done = [report.done for report in reports]
        assert done == sorted(done) and done[-1] <= reports[-1].total


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("shape mismatch"), False),
        (RuntimeError(404), False),
        (ValueError("CUDA out of memory."), False),
    ],
)
def test_what_is_a_lack_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_it_works_without_torch() -> None:
    code = """
import sys
from rerank.batching import Batches
def make(batch):
    if len(batch) > 1:
        raise (MemoryError if len(batch) > 2 else ValueError)("too many")
    return batch
print(list(Batches(4)(range(4), make)), sorted({"torch", "accelerate"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[0, 1, 2, 3] []\n"
