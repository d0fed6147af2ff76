"""How the threads of torch wait for work."""

import os


def wait_passively() -> None:
    """Let threads that wait for work sleep, unless the environment says otherwise; to be called before torch is imported.

    By default they spin, and hold the cores that another program, or the one thread that has work, would need.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
