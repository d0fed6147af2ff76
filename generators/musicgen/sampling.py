"""Draw tokens: guidance, temperature, top-k, and a stream of random numbers for each candidate.

One number decides one token, and it depends on the candidate's seed, the step and the codebook alone. So a candidate is
the same whichever others are made beside it, and a longer one begins as the shorter one does.

**Conventions**: logits are `[..., vocabulary]`, numbers are uniform in [0, 1).

**Source**: classifier-free guidance and top-k as MusicGen uses them (arXiv:2306.05284, section 3.1); counter-based random
numbers: Philox (Salmon et al. 2011).
"""

import numpy as np
import torch
from torch import Tensor


def numbers_of(seed: int, steps: int, codebooks: int) -> Tensor:
    """Return the random numbers of a candidate; those of fewer steps are the first of more.

    Shape:
        `[steps, codebooks]`, float64
    """
    raw = np.random.Philox(key=seed).random_raw(steps * codebooks)
    return torch.from_numpy((raw >> np.uint64(11)) * 2.0**-53).reshape(steps, codebooks)


def guide(logits: Tensor, other: Tensor, guidance: float) -> Tensor:
    """Return logits moved away from `other`, those without the prompt or with a negative one; 1 leaves them as they are."""
    return other + guidance * (logits - other)


def keep_top(logits: Tensor, top_k: int) -> Tensor:
    """Return logits with all but the `top_k` highest, and those equal to the lowest of them, at minus infinity.

    0 keeps all.
    """
    if not 0 < top_k < logits.shape[-1]:
        return logits
    lowest = logits.topk(top_k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    return logits.masked_fill(logits < lowest, -torch.inf)


def draw(logits: Tensor, numbers: Tensor, temperature: float, top_k: int) -> Tensor:
    """Return one token for each row of logits: the first whose cumulative probability is above the row's number.

    Tokens stand in the order of the vocabulary, not of their probability, so that two that are nearly as likely do not
    change places where hardware adds in another order.

    Args:
        logits: of the vocabulary.
        numbers: one for each row.
        temperature: that the logits are divided by; 0 takes the likeliest token.
        top_k: how many of the likeliest tokens can be drawn; 0 for all.

    Shape:
        logits `[..., vocabulary]`, numbers `[...]` -> `[...]`, int64
    """
    if temperature == 0:
        return logits.argmax(-1)
    likely = keep_top(logits / temperature, top_k).softmax(-1)
    cumulative = likely.cumsum(-1, dtype=torch.float64)
    place = numbers[..., None] * cumulative[..., -1:]
    return torch.searchsorted(cumulative, place, right=True)[..., 0]
