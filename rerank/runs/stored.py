"""A run that was stored: read again, and checked against what was recorded.

Both versions of `ranking.json` are read. Version 1 has no hashes and one reward model; what it did not record is empty.
What was edited by hand into something that no run writes is refused here, in one line, and not where it is used.
"""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from rerank.audio import Audio, inspect
from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput, UnreadableAudio, one_line
from rerank.files import as_path, sha256_of
from rerank.manifest import INDEX
from rerank.ranking import Ranking
from rerank.run_folder import read_document
from rerank.runs.checks import check_candidates, check_prompt, check_settings
from rerank.settings import Settings, Status

_STATUS = ("running", "done", "interrupted", "failed")


def load(folder: str | Path) -> Ranking:
    """Return the ranking of a stored run, also of one that is unfinished; audio is read when it is used.

    Nothing is checked but the document: `verify` says whether the files are still what was stored.

    Args:
        folder: that holds `ranking.json`, or that file.

    Raises:
        InvalidInput: there is no run, or its document is not one of ours.
    """
    place = as_path("run", folder)
    if place.name == "ranking.json" and place.is_file():
        place = place.parent
    document = read_document(place)
    if document is None:
        if (place / INDEX).is_file():
            raise InvalidInput(
                f"{place} holds a run for each of many prompts; give the folder of one (`rerank show {place}` lists them)"
            )
        raise InvalidInput(f"there is no run in {place}: it has no ranking.json; give the folder of a run")
    return from_document(document, place)


def verify(folder: str | Path) -> list[str]:
    """Return what is wrong with the files of a stored run, one line for each; an empty list if nothing is.

    Raises:
        InvalidInput: as `load` does.
    """
    faults = []
    for candidate in sorted(load(folder).candidates, key=lambda one: one.index):
        if candidate.path is None:
            continue
        fault = _file_fault(candidate.path, candidate.sha256)
        if fault is not None:
            faults.append(f"{candidate.path} {fault}")
    return faults


def _file_fault(path: Path, sha256: str | None) -> str | None:
    if not os.path.lexists(path):
        return "is missing"
    if sha256 is None:
        return "cannot be checked: version 1 of ranking.json records no hashes"
    try:
        same = sha256_of(path) == sha256
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
    return None if same else "is not what was stored: its SHA-256 differs"


def from_document(document: Mapping[str, Any], folder: Path) -> Ranking:
    """Return the ranking that a document of `ranking.json` in a folder stands for.

    Raises:
        InvalidInput: the document is none of ours, or of a version that is not known.
    """
    version = document.get("version")
    if version not in (1, 2):
        raise InvalidInput(f"{folder / 'ranking.json'} has version {version!r:.40}; this rerank reads versions 1 and 2")
    try:
        prompt = document["prompt"]
        settings = _settings(document["settings"])
        if document["status"] not in _STATUS:
            raise ValueError(f"status {document['status']!r:.40}")
        candidates = tuple(_candidate(entry, folder) for entry in document["candidates"])
        check_prompt(prompt)
        check_candidates(candidates, settings)
        whole = Prompt.recalled(prompt["text"], prompt["lyrics"], _reference(prompt["reference"], folder))
        ranking = Ranking(whole, candidates, settings, cast(Status, document["status"]))
        # what was stored before there were reasons has them made
        return ranking if all("faults" in entry for entry in document["candidates"]) else ranking.explained()
    # a document may have been edited by hand into anything
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidInput(
            f"{folder / 'ranking.json'} is no ranking that can be read ({one_line(error)}); restore it"
        ) from error


def _settings(found: Mapping[str, Any]) -> Settings:
    known = {field.name for field in fields(Settings)}
    values = {name: value for name, value in found.items() if name in known}
    # what the first version did not record
    values = {"top_k": values["n"], "filters": {}, "rerank_version": "", **values}
    for name in ("not_followed", "not_read", "notes", "rewards"):
        values[name] = tuple(values.get(name, ()))
    if not values["rewards"]:
        record = {"name": values["reward"]}
        if "reward_version" in values:
            record["version"] = values["reward_version"]
        values["rewards"] = (record,)
    settings = Settings(**values)
    check_settings(settings)
    return settings


def _candidate(entry: Mapping[str, Any], folder: Path) -> Candidate:
    path = None if entry["path"] is None else folder / entry["path"]
    source = entry.get("source")
    return Candidate(
        index=entry["index"],
        seed=entry["seed"],
        audio=_audio(entry, path),
        rewards=dict(entry["rewards"]),
        combined=entry["combined"],
        rank=entry["rank"],
        set_aside=entry["set_aside"],
        reasons=tuple(entry.get("reasons", ())),
        faults=_faults(entry),
        path=path,
        sha256=entry.get("sha256"),
        source=None if source is None else folder / source,
        truth=entry.get("truth"),
        licence=entry.get("licence"),
    )


def _faults(entry: Mapping[str, Any]) -> dict[str, str]:
    if "faults" in entry:
        return dict(entry["faults"])
    # the first documents of version 2 told them among the reasons only
    parts = (reason.partition(" gave no reward: ") for reason in entry.get("reasons", ()))
    return {name: why for name, sign, why in parts if sign}


def _audio(entry: Mapping[str, Any], path: Path | None) -> Audio | None:
    rate, duration, channels = entry["sample_rate"], entry["duration"], entry.get("channels")
    if rate is None or duration is None:
        return None
    if channels is None:  # version 1
        try:
            return inspect(path) if path else None
        except UnreadableAudio:
            return None
    # where it was in no file, or that was removed, it is only known what it was
    return Audio.stored(
        path, sample_rate=rate, channels=channels, frames=round(duration * rate), sha256=entry.get("sha256")
    )


def _reference(found: Any, folder: Path) -> Audio | None:
    if found is None:
        return None
    if isinstance(found, str):  # version 1
        try:
            return inspect(folder / found)
        except UnreadableAudio:
            return None
    path = None if found["path"] is None else folder / found["path"]
    rate, channels = found.get("sample_rate", 48_000), found.get("channels", 1)
    return Audio.stored(
        path,
        sample_rate=rate,
        channels=channels,
        frames=round(found["duration"] * rate),
        sha256=found["sha256"],
    )
