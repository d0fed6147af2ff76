"""The sampler of Stable Audio Open Small: each step takes all noise away and adds less.

**Source**: Novack et al. 2025, arXiv:2505.08175; after stable-audio-tools 0.0.19 (code MIT), by whose outputs it was
checked.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

_NOISIEST, _CLEANEST = -6.0, 2.0  # logarithms of signal to noise between which the steps lie


def times(steps: int) -> list[float]:
    """Return how much is noise before each step, and after the last: from 1 to 0, even in the signal-to-noise ratio.

    >>> [round(time, 3) for time in times(4)]
    [1.0, 0.982, 0.881, 0.5, 0.0]
    """
    inner = torch.sigmoid(-torch.linspace(_NOISIEST, _CLEANEST, steps + 1)).tolist()[1:-1]
    return [1.0, *inner, 0.0]


def ping_pong(
    velocity: Callable[[Tensor, float], Tensor], noise: Callable[[], Tensor], steps: int, on_step: Callable[[int], None]
) -> Tensor:
    """Return latents made of noise: each step takes all noise away and adds fresh noise, less and less.

    Args:
        velocity: of the flow, for latents of which a part is noise.
        noise: returns fresh noise; it is called once for each step.
        steps: of denoising.
        on_step: is told how many steps are done.

    Source:
        the sampler of the paper, arXiv:2505.08175.
    """
    latents = noise()
    for done, (now, then) in enumerate(itertools.pairwise(times(steps)), 1):
        latents = latents - now * velocity(latents, now)
        if then > 0:
            latents = (1 - then) * latents + then * noise()
        on_step(done)
    return latents
