"""With what a run is made: its settings, as its document records them.

Two runs whose sound or numbers could differ differ in them.
"""

import contextlib
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from rerank import __version__
from rerank.automatic import limits_of
from rerank.data import Prompt
from rerank.errors import InvalidInput, one_line
from rerank.protocols import GeneratorInfo, Reading, RewardInfo
from rerank.ranking import Ranking
from rerank.request import Request
from rerank.rules import normalise_weights
from rerank.runs.notes import on_languages, on_reading, said, unread
from rerank.runs.panel import Panel
from rerank.settings import Settings

_LIBRARIES = ("torch", "transformers", "numpy", "scipy", "soxr")  # that make or resample sound, or judge it

logger = logging.getLogger("rerank")


def settings_of(
    request: Request,
    panel: Panel,
    prompt: Prompt,
    stored: Ranking | None,
    generator: GeneratorInfo | None = None,
    duration: float | None = None,
    seed: int | None = None,
    made_by: str | None = None,
    reading: Reading | None = None,
) -> Settings:
    """Return the settings of a run; what the user did not give is as in the stored run, if there is one.

    Args:
        request: what the user asked for.
        panel: the reward models.
        prompt: of all candidates.
        stored: the run that is gone on with, or ranked again.
        generator: that makes candidates; None where none are made.
        duration, seed: that it is given.
        made_by: the generator that made the audio, by its name; None where it is not known, or not one.
        reading: what the generator understands of the prompt; None where it does not tell.
    """
    was = stored.settings if stored is not None else None
    models = [str(record["name"]) for record in panel.records]
    request.check_axes(panel.axes, prompt, models)
    if request.weights is not None:
        weights = normalise_weights(request.weights, panel.axes, models)
    elif was is not None:
        weights = _with_new_axes(was.weights, panel)
    else:
        weights = panel.default_weights()
    if stored is not None and generator is None:
        _check_rewarded(weights, panel, stored)
    rule = request.rule or (was.rule if was and len(was.rewards) == len(panel.records) else panel.default_rule())
    kept_filters = request.filters is None and was is not None and (was.filters or generator is None)
    filters = renamed(was.filters, panel) if was and kept_filters else request.filters_on(panel.axes, models).to_dict()
    facts: dict[str, Any] = {}
    if generator is not None:
        facts = {
            "duration": duration,
            "seed": seed,
            "generator": generator.name,
            "generator_version": generator.version,
            "generator_options": _plain(generator.options, generator.name),
            "generator_device": generator.device,
            "generator_licence": generator.licence,
            "not_followed": _not_followed(prompt, generator, panel, reading),
        }
        for part in prompt.conditions():
            if part not in generator.conditions:
                logger.warning("generator %s does not follow %s: only the reward model gets it", generator.name, part)
    earlier = stored if generator is None else None
    # of reward models that were asked before, the run has said what there is to say
    asked = {record["name"] for record in earlier.settings.rewards} if earlier else set()
    infos = [info for info in panel.infos if info.name not in asked]
    notes = [limits for info in infos if (limits := limits_of(info, made_by))]
    readers: list[GeneratorInfo | RewardInfo] = [*([generator] if generator is not None else []), *infos]
    notes += said([*on_reading(generator.name if generator else "", reading), *on_languages(prompt, readers)])
    unsure = {info.name for info in panel.infos for part in ("text", "lyrics") if unread(prompt, part, info)}
    if generator is not None and reading is not None and "text" in reading.not_followed:
        # what has learned from this generator alone knows no more words than that
        unsure |= {info.name for info in panel.infos if info.trained_on == (generator.name,)}
    new = Settings(
        n=int(request.n),
        top_k=request.top_k or (was.top_k if was is not None and was.top_k < was.n else int(request.n)),
        reward=panel.name,
        reward_version=str(panel.records[0].get("version", "")) if len(panel.records) == 1 else "",
        rewards=tuple(_recorded(record, unsure) for record in panel.records),
        reward_licence=panel.licence or (was.reward_licence if was else None),
        weights=weights,
        rule=rule,
        filters=filters,
        # what the reward models that are known do not read is only known of the run
        not_read=tuple(part for part in panel.not_read(prompt) if was is None or generator or part in was.not_read),
        notes=tuple(dict.fromkeys((*(earlier.settings.notes if earlier else ()), *notes))),
        rerank_version=__version__,
        versions=_versions(),
        **facts,
    )
    for part in new.not_read:
        logger.warning("reward model %s does not read %s", panel.name, part)
    if was is None or generator is not None:
        return new
    kept = ["duration", "seed", "not_followed", "rerank_version", "versions"]
    kept += [name for name in vars(was) if name.startswith("generator")]
    return replace(new, **{name: getattr(was, name) for name in kept})


def _not_followed(prompt: Prompt, generator: GeneratorInfo, panel: Panel, reading: Reading | None) -> tuple[str, ...]:
    """Return the parts of the prompt that the generator does not follow, and lyrics that nobody can read."""
    lost = {part for part in prompt.conditions() if part not in generator.conditions}
    if reading is not None:
        lost.update(reading.not_followed)
    elif unread(prompt, "lyrics", generator):
        readers = [info for info in panel.infos if "lyrics" in info.conditions]
        lost.update({"lyrics"} if all(unread(prompt, "lyrics", info) for info in readers) else ())
    return tuple(part for part in prompt.conditions() if part in lost)


def _check_rewarded(weights: Mapping[str, float], panel: Panel, stored: Ranking) -> None:
    """Refuse weights of a run that is ranked again under which nothing could be ranked."""
    known = {
        axis for one in stored.candidates for axis, reward in panel.named(one.rewards).items() if reward is not None
    }
    hoped_for = known | {axis for info in panel.infos for axis in panel.named_axes(info)}
    weighed = [axis for axis, weight in weights.items() if weight]
    if known and not hoped_for.intersection(weighed):
        raise InvalidInput(
            f"no candidate of the run has a reward on {' or '.join(weighed)}; weigh another axis: "
            f"{', '.join(sorted(known))}"
        )


def renamed(filters: Mapping[str, Any], panel: Panel) -> dict[str, Any]:
    """Return stored filters, with the floors on the axes by the names that these have now."""
    floors = filters.get("floors")
    return {**filters, "floors": panel.named(floors)} if floors else dict(filters)


def _with_new_axes(weights: Mapping[str, float], panel: Panel) -> dict[str, float]:
    """Return stored weights by the names that axes have now; a new axis counts as much as a stored one on average."""
    known = {axis: weight or 0.0 for axis, weight in panel.named(weights).items()}
    if set(known) == set(panel.axes):
        return known
    weighed = {axis: known[axis] * len(known) if axis in known else one.weight for axis, one in panel.axes.items()}
    return normalise_weights(weighed, panel.axes)


def _recorded(record: Mapping[str, Any], unsure: Collection[str]) -> dict[str, Any]:
    """Return the record of a reward model; what a gap means does not hold where it cannot read the prompt."""
    found = _plain(record, record["name"])
    return {**found, "calibration": None} if record["name"] in unsure else found


def _versions() -> dict[str, str]:
    found = {"rerank": __version__}
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _plain(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], json.loads(json.dumps(dict(facts), allow_nan=False)))
    # its keys and values are anybody's objects
    except Exception as error:
        raise InvalidInput(
            f"what {name!r} says of itself cannot be stored ({one_line(error)}); its info must hold plain values"
        ) from error
