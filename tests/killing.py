"""Runs that are killed: a child process is forked, killed with SIGKILL at some moment, and what it left is looked at.

A module of its own, run as a program, because a process in which a library has started threads may not be forked.
"""

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  # loaded before the first fork, so that each is quick
import soundfile  # noqa: F401

import rerank
from rerank.run_folder import read_document
from tests.conftest import ToyGenerator, ToyReward

_CHANGES = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate")


def make(folder: Path, *, n: int = 12, pause: float = 0.0, seed: int = 0, **options: Any) -> None:
    """Make a run of the toys."""
    rerank.generate(
        "piano",
        n,
        seed=seed,
        duration=0.5,
        generator=ToyGenerator(failing={3}, pause=pause),
        reward=ToyReward(),
        output=folder,
        **options,
    )


def in_child(job: Callable[[], None], *, kill_after: float | None = None) -> int:
    """Run a job in a forked child and return its exit status, negative for a signal; kill it after some seconds."""
    child = os.fork()
    if child == 0:
        try:
            job()
        except BaseException as error:  # noqa: BLE001  # a child must not go on as its parent
            print(f"child: {type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at(call: int) -> None:
    """Kill this process at the given call that changes a file or a folder, before it is done."""
    left = call

    def hook(event: str, arguments: Any) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in _CHANGES or writes:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def whole(folder: Path) -> dict[str, Any] | None:
    """Return the document of a run, after checking that all it lists is there as recorded; None if there is none."""
    document = read_document(folder)
    for entry in document["candidates"] if document else []:
        if entry["path"] is not None:
            digest = hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest()
            assert digest == entry["sha256"], entry["path"]
    return document


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def at_random(folder: Path, kills: int) -> None:
    """Kill a run many times and go on with it each time; in the end it is as one that was not disturbed."""
    make(folder / "undisturbed")
    chance, done, broken = random.Random(0), 0, folder / "broken"
    while done < kills:
        if in_child(lambda: make(broken, pause=0.005, resume=True), kill_after=chance.uniform(0.0, 0.12)) == 0:
            # it got to the end before: what it made goes, and it begins again
            whole(broken)
            broken.rename(folder / f"done{len(os.listdir(folder))}")
            continue
        document = whole(broken) if broken.exists() else None
        assert document is None or rerank.load(broken).status in ("running", "done", "interrupted")
        done += 1
    assert in_child(lambda: make(broken, resume=True)) == 0
    assert contents(broken) == contents(folder / "undisturbed")
    print(f"{done} kills")


def at_every_call(folder: Path, step: int) -> None:
    """Kill a run that replaces another at each `step`th of its file calls, twice in a row; one is always there whole."""
    make(folder / "old", n=3)
    make(folder / "new", n=4, seed=100)
    names = ("candidates/002-my favourite.wav", "candidates/003-seed103.wav", "candidates/notes.txt", "band.wav")
    mine = dict.fromkeys(names, b"mine")
    was, is_now = contents(folder / "old"), contents(folder / "new")
    seeds = {0: was, 100: is_now}
    deaths = 0
    for first in range(1, 1000, step):
        for second in sorted({1, first // 2 or 1, first, first + 3}):
            place = folder / "place"
            make(place, n=3)
            for name, content in mine.items():
                (place / name).write_bytes(content)
            died = [in_child(partial(_replace, place, call)) for call in (first, second)]
            document = whole(place)
            assert document is not None and document["status"] == "done"
            assert {entry["seed"] for entry in document["candidates"]} <= set(range(4)) | set(range(100, 104))
            expected = seeds[document["settings"]["seed"]]
            for entry in document["candidates"]:
                if entry["path"] is not None:
                    name = f"candidates/{Path(entry['path']).name}"
                    assert (place / entry["path"]).read_bytes() == expected[name]
            deaths += died.count(-signal.SIGKILL)
            make(place, n=4, seed=100, overwrite=True)
            assert contents(place) == {**is_now, **mine}
            for path in sorted(place.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        if died[0] == 0:
            break
    print(f"{deaths} deaths, the last at call {first - step}")


def by_signal(folder: Path, presses: int) -> None:
    """Press Ctrl-C at a random moment, many times: each ends a run that would else go on for long, and leaves it ranked."""
    chance, signals = random.Random(0), (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        signal.signal(number, signal.default_int_handler)  # as the command does
    for press in range(presses):
        place = folder / str(press)
        child = os.fork()
        if child == 0:
            make(place, n=1000)
            os._exit(0)
        deadline = time.monotonic() + 10
        while not list((place / "candidates").glob("*.flac")) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 0.2))
        pressed = time.monotonic()
        os.kill(child, chance.choice(signals))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        took = time.monotonic() - pressed
        document = whole(place)
        assert status == 0 and took < 2 and document is not None, (press, status, took)
        assert document["status"] == "interrupted" and document["candidates"][0]["rank"] == 1, press
    print(f"{presses} signals")


def _replace(place: Path, call: int) -> None:
    die_at(call)
    make(place, n=4, seed=100, overwrite=True)


if __name__ == "__main__":
    test = {"at_random": at_random, "at_every_call": at_every_call, "by_signal": by_signal}[sys.argv[1]]
    test(Path(sys.argv[2]), int(sys.argv[3]))
