"""Going on with a stored run: is it the same one, and which of its candidates are still what was stored?"""

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput
from rerank.files import sha256_of
from rerank.ranking import Ranking
from rerank.settings import Settings

logger = logging.getLogger("rerank")

_FACTS = ("version", "options", "precision")


def check_same(stored: Ranking, prompt: Prompt, settings: Settings) -> None:
    """Refuse to go on with a run as another one.

    What version 1 of `ranking.json` did not record is not compared.

    Args:
        stored: the run.
        prompt, settings: of what is to go on; its n may be larger, and its reward models in another order.

    Raises:
        InvalidInput: naming what differs.
    """
    was, now = stored.settings, settings
    if now.n < was.n:
        raise InvalidInput(f"cannot resume: the run is of n={was.n}, and now n is {now.n}; a run can only grow")
    pairs: dict[str, tuple[object, object]] = {
        "text": (stored.prompt.text, prompt.text),
        "lyrics": (stored.prompt.lyrics, prompt.lyrics),
        "reference": (_sha256(stored.prompt), _sha256(prompt)),
    }
    names = ["seed", "duration", "generator"]
    if was.versions:  # version 1 records none, and neither what follows
        names += ["generator_version", "generator_options", "generator_device"]
    pairs |= {name.replace("_", " "): (getattr(was, name), getattr(now, name)) for name in names}
    pairs |= _reward_pairs(was, now)
    names = ["weights", "rule", *(["filters"] if was.filters else [])]
    pairs |= {name: (getattr(was, name), getattr(now, name)) for name in names}
    for name, (before, after) in pairs.items():
        if _plain(before) != _plain(after):
            one, other = _differing(before, after)
            raise InvalidInput(
                f"cannot resume: the run was made with {name} {_told(one)}, and now it is {_told(other)}; give the "
                "same, or another folder"
            )
    if was.versions and dict(was.versions) != dict(now.versions):
        logger.warning(
            "the run was begun with other versions of libraries (%s); its takes may differ", dict(was.versions)
        )


def _reward_pairs(was: Settings, now: Settings) -> dict[str, tuple[object, object]]:
    """Return what is to be compared of the reward models, each with the one of its name.

    Raises:
        InvalidInput: some of the run are missing.
    """
    before, after = ({str(one["name"]): one for one in settings.rewards} for settings in (was, now))
    missing = [name for name in before if name not in after]
    if missing and after.keys() <= before.keys():
        options = " ".join(f"--reward {name}" for name in before)
        raise InvalidInput(
            f"cannot resume: the run has rewards of {' and '.join(missing)} too; give all of its reward models: "
            f"{options} (in Python: reward={list(before)})"
        )
    if before.keys() != after.keys():
        return {"reward": (was.reward, now.reward)}
    return {
        f"{fact} of {name}": (one[fact], after[name].get(fact))
        for name, one in before.items()
        for fact in _FACTS
        if fact in one
    }


def intact(stored: Ranking) -> dict[int, Candidate]:
    """Return the candidates of a stored run that need not be made again, by index.

    Those that failed, and those whose file is missing or not what was stored, are not among them.
    """
    found: dict[int, Candidate] = {}
    for candidate in stored.candidates:
        if candidate.audio is None:
            continue
        fault = None if candidate.is_removed else _fault(candidate)
        if fault is not None:
            logger.warning("%s %s; its candidate is made again", candidate.path, fault)
            continue
        found[candidate.index] = candidate
    return found


def _fault(candidate: Candidate) -> str | None:
    """Return why the file of a candidate cannot be gone on with; None where it is what was stored."""
    if candidate.path is None or not os.path.isfile(candidate.path):
        return "is missing"
    try:
        # version 1 recorded no hashes: what is there has to be believed
        same = candidate.sha256 is None or sha256_of(candidate.path) == candidate.sha256
    except OSError as error:
        return f"cannot be read ({(error.strerror or str(error)).lower()})"
    return None if same else "is not what was stored"


def _sha256(prompt: Prompt) -> str | None:
    return None if prompt.reference is None else prompt.reference.sha256


def _plain(value: object) -> object:
    """Return a value as it comes back from a document."""
    return json.loads(json.dumps(dict(value) if isinstance(value, Mapping) else value))


def _differing(before: object, after: object) -> tuple[object, object]:
    """Return two values, of mappings only what differs."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return before, after
    names = [name for name in {**before, **after} if _plain(before.get(name)) != _plain(after.get(name))]
    one, other = ({name: values[name] for name in names if name in values} for values in (before, after))
    return one, other


def _told(value: Any) -> str:
    text = json.dumps(dict(value) if isinstance(value, Mapping) else value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
