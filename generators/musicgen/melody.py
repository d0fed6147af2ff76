"""The melody of a reference, as the melody models of MusicGen take it: the strongest pitch class at each moment.

**Source**: chroma of MusicGen (arXiv:2306.05284, section 3.1), with the constants of transformers'
`MusicgenMelodyFeatureExtractor` and without the separation of instruments that is left to the user there too.
"""

import logging

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.audio_utils import chroma_filter_bank

from rerank.audio import Audio, resample, to_mono

logger = logging.getLogger("rerank")

_WINDOW, _HOP = 16_384, 4_096

LONGEST = 30.0
"""Seconds of a reference that are listened to."""


def melody_of(reference: Audio, sample_rate: int, classes: int) -> Tensor:
    """Return the strongest pitch class every 128 ms; where nothing sounds it is the first one.

    Args:
        reference: of any sample rate and channels; what is after 30 s is not heard.
        sample_rate: to listen at, that of the model, in Hz.
        classes: pitch classes, 12.

    Shape:
        `[1 + time // 4096, classes]`, one 1 in each row
    """
    if reference.duration > LONGEST:
        logger.warning("only the first %g s of the reference are heard; it has %.1f s", LONGEST, reference.duration)
    heard = resample(to_mono(reference), sample_rate).waveform[0, : round(LONGEST * sample_rate)]
    waveform = torch.from_numpy(np.ascontiguousarray(heard))
    missing = max(0, _WINDOW - len(waveform))
    waveform = F.pad(waveform, (missing // 2, missing - missing // 2))
    spectrum = torch.stft(
        waveform, _WINDOW, _HOP, window=torch.hann_window(_WINDOW), pad_mode="reflect", return_complex=True
    )
    filters = chroma_filter_bank(num_frequency_bins=_WINDOW, num_chroma=classes, sampling_rate=sample_rate, tuning=0.0)
    strength = torch.from_numpy(filters).float() @ spectrum.abs().square()
    return F.one_hot(strength.argmax(0), classes).float()


def no_melody(classes: int) -> Tensor:
    """Return what stands for a reference that is not given: the first pitch class.

    Shape:
        `[1, classes]`
    """
    return F.one_hot(torch.zeros(1, dtype=torch.int64), classes).float()
