"""Make candidates in batches as large as the memory allows, and report how far the whole is."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from rerank.protocols import Progress

Made = TypeVar("Made")

OnStep = Callable[[int, int], None]
"""Called within a batch with (steps done, steps of the batch)."""

logger = logging.getLogger("rerank")


def in_batches(
    seeds: Sequence[int],
    size: int,
    make: Callable[[Sequence[int], OnStep], Sequence[Made]],
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[Made]:
    """Yield what `make` makes of each seed, in the order of `seeds`.

    Where a batch needs more memory than there is, it is made again in halves, and so are those that follow it.

    Args:
        seeds: of all that is to be made.
        size: of the first batches, at least 1.
        make: returns one item per seed of a batch; it reports its steps to what it is given, which may raise to stop.
        on_progress: is told how far all seeds together are.

    Raises:
        Exception: what `make` raises; running out of memory only where a single seed does.
    """
    position, furthest = 0, 0.0
    while position < len(seeds):
        batch = seeds[position : position + size]
        before = position

        def on_step(done: int, steps: int, batch: Sequence[int] = batch, before: int = before) -> None:
            nonlocal furthest
            furthest = max(furthest, before + len(batch) * done / steps)
            if on_progress:
                on_progress(Progress("generating", int(furthest * _STEPS), len(seeds) * _STEPS))

        made: Sequence[Made] | None
        try:
            made = make(batch, on_step)
        except Exception as error:
            if len(batch) == 1 or not should_reduce_batch_size(error):
                raise
            made = None
        if made is None:
            # only here, where the error is gone, is what its frames held free
            size = len(batch) // 2
            logger.warning("%d candidates at once do not fit the memory: going on with %d", len(batch), size)
            clear_device_cache(garbage_collection=True)
        else:
            yield from made
            position += len(batch)


_STEPS = 1000
"""Of progress that stand for one candidate."""
