"""Names of devices, as far as they can be checked without torch."""

import re

from rerank.errors import InvalidInput

_NAME = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def check_device(name: object) -> None:
    """Refuse what cannot be the name of a device on any machine.

    Raises:
        InvalidInput: it is none of "auto", "cpu", "cuda", "cuda:0" (or another number) and "mps".
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(f"device must be 'auto', 'cpu', 'cuda', 'cuda:0' (or another number) or 'mps', got {name!r}")
