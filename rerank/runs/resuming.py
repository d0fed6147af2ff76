"""Going on with a stored run: is it the same one, and which of its candidates are still what was stored?"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput
from rerank.files import sha256_of
from rerank.ranking import Ranking, Settings

logger = logging.getLogger("rerank")

_FACTS = ("version", "options", "precision")


def check_same(stored: Ranking, prompt: Prompt, settings: Settings) -> None:
    """Refuse to go on with a run as another one.

    Args:
        stored: the run.
        prompt, settings: of what is to go on; its n may be larger.

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
    for name in ("seed", "duration", "generator", "generator_version", "generator_options", "generator_device"):
        pairs[name.replace("_", " ")] = (getattr(was, name), getattr(now, name))
    pairs["reward"] = (was.reward, now.reward)
    for one, other in zip(was.rewards, now.rewards, strict=False):
        pairs |= {f"{fact} of {now.reward}": (one.get(fact), other.get(fact)) for fact in _FACTS if fact in one}
    pairs |= {name: (getattr(was, name), getattr(now, name)) for name in ("weights", "rule", "filters")}
    for name, (before, after) in pairs.items():
        if _plain(before) != _plain(after):
            raise InvalidInput(
                f"cannot resume: the run was made with {name} {_told(before)}, and now it is {_told(after)}; give the "
                "same, or another folder"
            )
    if was.versions and dict(was.versions) != dict(now.versions):
        logger.warning(
            "the run was begun with other versions of libraries (%s); its takes may differ", dict(was.versions)
        )


def intact(stored: Ranking) -> dict[int, Candidate]:
    """Return the candidates of a stored run that need not be made again, by index.

    Those that failed, and those whose file is missing or not what was stored, are not among them.
    """
    found: dict[int, Candidate] = {}
    for candidate in stored.candidates:
        if candidate.audio is None:
            continue
        if not candidate.is_removed and not _is_there(candidate):
            logger.warning("%s is not what was stored; its candidate is made again", candidate.path)
            continue
        found[candidate.index] = candidate
    return found


def _is_there(candidate: Candidate) -> bool:
    if candidate.path is None or not candidate.path.is_file():
        return False
    # version 1 recorded no hashes: what is there has to be believed
    return candidate.sha256 is None or sha256_of(candidate.path) == candidate.sha256


def _sha256(prompt: Prompt) -> str | None:
    return None if prompt.reference is None else prompt.reference.sha256


def _plain(value: object) -> object:
    """Return a value as it comes back from a document."""
    return json.loads(json.dumps(dict(value) if isinstance(value, Mapping) else value))


def _told(value: Any) -> str:
    text = json.dumps(dict(value) if isinstance(value, Mapping) else value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
