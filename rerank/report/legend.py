"""What a page says of its own bars, pictures and players."""

from collections.abc import Sequence

from rerank.report.bars import Scale
from rerank.report.pictures import RANGE
from rerank.report.sounds import Sounds
from rerank.report.words import decibels, listed, several


def about_bars(scales: Sequence[Scale]) -> str:
    """Return what the bars mean."""
    bounded = [scale.axis for scale in scales if scale.bounded]
    others = [scale.axis for scale in scales if not scale.bounded]
    told = [
        f"The bar of {listed(others)} begins at the lowest of the takes that are ranked here, and ends at the highest."
    ]
    if bounded:
        told.append(f"The bar of {listed(bounded)} goes from the least that it can be to the most.")
    told.append("The marks below a bar are the takes. A longer bar is better, and is compared within its axis only.")
    return " ".join(told)


def about_sounds(sounds: Sounds, others: int) -> list[str]:
    """Return what pictures and players show, and what they do not.

    Args:
        sounds: of the page.
        others: how many takes stand in a table.
    """
    told = []
    if any(one.mel for one in sounds.each):
        told.append(
            "All waveforms have one scale, and so have all spectrograms: a quieter take looks quieter. Full height is a "
            f"peak of {decibels(sounds.peak)}. The darkest colour (on a dark page, the lightest) is the loudest sound of "
            f"this page, and what is {RANGE:g} dB below it has the colour of silence."
        )
    if sounds.quality is not None:
        told.append(
            f"The players hold small copies: {sounds.quality}, or what the take has where that is less. The takes "
            "themselves are the files whose names stand beside them."
        )
    if sounds.mute:
        told.append(
            f"{several(sounds.mute, 'take')} {'has' if sounds.mute == 1 else 'have'} no player: with more of them the page "
            "would be too large for mail."
        )
    if others:
        told.append(f"{several(others, 'take')} stand in a table below the others, without pictures and players.")
    return told
