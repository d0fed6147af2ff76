"""Work in batches: as large as the memory allows, and in halves where one fails, so that a failure costs one item.

Generators make candidates by it and reward models are asked by it; it loads nothing heavy.
"""

import itertools
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rerank.errors import one_line
from rerank.protocols import Progress

Item = TypeVar("Item")
Made = TypeVar("Made")

OnStep = Callable[[int, int], None]
"""Called within a batch with (steps done, steps of the batch)."""

_STEPS = 1000
"""Of progress that stand for one candidate."""

logger = logging.getLogger("rerank")


class Passing(BaseException):
    """Carries an error that is no failure of a batch past everything that could take it for one.

    Args:
        error: that is raised in its place where the batch was asked for.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Batches:
    """Batches of a size that shrinks for good where the memory runs out.

    Args:
        size: items of the first batches, at least 1.
        filled: fill every batch up to the size with its last item, where the size of a batch changes the last digits.
        of: what the items are, in messages.
    """

    def __init__(self, size: int, *, filled: bool = False, of: str = "candidates") -> None:
        assert size >= 1, size
        self.size, self.filled, self.of = size, filled, of

    def __call__(
        self,
        items: Sequence[Item],
        make: Callable[[Sequence[Item]], Iterable[Made]],
        alone: Callable[[Exception], Made] | None = None,
    ) -> Iterator[Made]:
        """Yield what `make` makes of each item, in order, each as soon as `make` gives it.

        Where a batch fails, what it has not given yet is made again in halves, down to one item; then the next batch is
        of full size again. What the failed batch held is free before the next one begins.

        Args:
            items: of all that is to be made.
            make: gives one thing for each item of a batch, one by one or all at once; what it gives beyond is dropped.
            alone: gives what stands for an item that fails by itself; left out, its error is raised.

        Raises:
            Exception: what `make` raises for a single item, or within a `Passing`.
        """
        position = 0
        halves: list[int] = []  # where the parts of what failed end, the nearest last
        while position < len(items):
            while halves and halves[-1] <= position:
                halves.pop()
            start, end = position, min(position + self.size, len(items), *halves[-1:])
            batch = self._whole(items[start:end])
            short, lost = False, list[Made]()
            try:
                for one in itertools.islice(make(batch), end - start):
                    position += 1
                    yield one
                assert position == end, "make gave less than it was asked for"
                continue
            except Passing as passing:
                raise passing.error from passing.error.__cause__
            except Exception as error:
                short = len(batch) > 1 and is_out_of_memory(error)
                if not short and end - start == 1:
                    if alone is None:
                        raise
                    lost.append(alone(error))
                logger.debug("a batch of %d failed", len(batch), exc_info=True)
                self._say(len(batch), error, short, nested=bool(halves))
                # whoever else keeps the error, a log for one, does not keep what the batch was made of
                traceback.clear_frames(error.__traceback__)
            # only here, where the error is gone, its memory can be given back
            if short:
                self.size = len(batch) // 2
                _give_memory_back()
            else:
                halves += [end, position + (end - position) // 2]
            position += len(lost)
            yield from lost

    def _whole(self, batch: Sequence[Item]) -> Sequence[Item]:
        return [*batch, *[batch[-1]] * (self.size - len(batch))] if self.filled else batch

    def _say(self, count: int, error: Exception, short: bool, *, nested: bool) -> None:
        """Say what a failure leads to; of one within another only to those who look closely."""
        if short:
            logger.warning("%d %s at once do not fit the memory: going on with %d", count, self.of, count // 2)
        elif count > 1 and not nested:
            logger.warning("%d %s at once failed (%s): going on in halves", count, self.of, one_line(error))


def in_batches(
    seeds: Sequence[int],
    size: int,
    make: Callable[[Sequence[int], OnStep], Iterable[Made]],
    on_progress: Callable[[Progress], None] | None = None,
    *,
    filled: bool = False,
) -> Iterator[Made]:
    """Yield what a generator makes of each seed, in the order of `seeds`, each as soon as it is finished.

    Args:
        seeds: of all that is to be made.
        size: of the batches, see `Batches`.
        make: gives one item per seed of a batch; it reports its steps to what it is given, which may raise to stop.
        on_progress: is told how far all seeds together are; what it raises is no failure and ends the work at once.
        filled: see `Batches`.

    Raises:
        Exception: what `make` raises for a single seed, or what `on_progress` raises.
    """
    finished, furthest = 0, 0.0

    def report(reached: float) -> None:
        nonlocal furthest
        furthest = max(furthest, reached)
        if on_progress:
            on_progress(Progress("generating", int(furthest * _STEPS), len(seeds) * _STEPS))

    def attempt(batch: Sequence[int]) -> Iterable[Made]:
        before, count = finished, min(len(batch), len(seeds) - finished)  # what only fills it up does not count

        def on_step(done: int, steps: int) -> None:
            try:
                report(before + count * done / steps)
            except Exception as error:
                raise Passing(error) from error

        return make(batch, on_step)

    for one in Batches(size, filled=filled)(seeds, attempt):
        yield one
        finished += 1
        if finished > furthest:
            report(finished)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that there is not enough memory, of the machine or of a device."""
    if isinstance(error, MemoryError):
        return True
    if "torch" not in sys.modules or not all(isinstance(part, str) for part in error.args):
        return False
    from accelerate.utils.memory import should_reduce_batch_size

    return bool(should_reduce_batch_size(error))


def _give_memory_back() -> None:
    """Return what torch has freed to the device."""
    if "torch" in sys.modules:
        from accelerate.utils.memory import clear_device_cache

        clear_device_cache(garbage_collection=True)
