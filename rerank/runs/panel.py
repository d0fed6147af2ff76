"""The reward models of one run, asked together: their axes, their names in documents, their rewards.

**Conventions**: an axis is called by its name where there is one reward model, and `model.axis` where there are several.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from rerank.audio import Audio
from rerank.automatic import limits_of
from rerank.data import Candidate, Prompt
from rerank.errors import InvalidInput
from rerank.protocols import Axis, Reward, RewardInfo
from rerank.reasons import scales
from rerank.registry import Choice, known_info, load, resolve
from rerank.request import Request
from rerank.rules import Rule, normalise_weights
from rerank.scoring import Rewards, Scorer
from rerank.settings import Settings
from rerank.verdict import axes_of

logger = logging.getLogger("rerank")


RewardChoice = str | Path | Reward | Sequence[str | Path | Reward]
"""What stands for reward models in the Python API."""


class Panel:
    """The reward models of a run.

    Args:
        models: to be asked.
        known: settings of a run whose rewards are kept; its reward models are not asked again, unless they are among
            `models`, which then give what is missing.
        made_by: the generator that made the audio, by its name; None where it is not known, or not one.

    Attributes:
        records: of each reward model, as documents hold it.
        axes: of all of them, in order; those of reward models that are only known have no meaning here.
        batch_size: how many pieces of audio are scored at a time.
        models, infos: of those to be asked.

    Raises:
        InvalidInput: a reward model has no axes, two have one name, or an axis of one name, or one differs from the known
            one of its name.
    """

    def __init__(self, models: Sequence[Reward], known: Settings | None = None, *, made_by: str | None = None) -> None:
        infos = [model.info for model in models]
        self.records = _records(infos, known, made_by)
        several = len(self.records) > 1
        given = {info.name: info for info in infos}
        self.axes: dict[str, Axis] = {}
        # the axes of the known run, where there was one reward model and now more are
        self._renamed: dict[str, str] = {}
        for record in self.records:
            name = record["name"]
            if name in given:
                own = dict(given[name].axes)
            else:
                own = {axis.removeprefix(f"{name}."): Axis(meaning="") for axis in _axes_of(known, name)}
            for axis, meaning in own.items():
                full = f"{name}.{axis}" if several else axis
                if full in self.axes:
                    raise InvalidInput(f"two reward models have an axis that would be called {full!r}; rename one")
                self.axes[full] = meaning
                if several and known is not None and len(known.rewards) == 1 and known.rewards[0]["name"] == name:
                    self._renamed[axis] = full
        self.batch_size = max([1, *(info.batch_size for info in infos)])
        self.models = list(models)
        self._several = several
        self.infos = infos

    @staticmethod
    def axes_of(infos: Sequence[RewardInfo]) -> dict[str, Axis]:
        """Return the axes that a panel of these reward models will have."""
        if len(infos) == 1:
            return dict(infos[0].axes)
        return {f"{info.name}.{axis}": info.axes[axis] for info in infos for axis in info.axes}

    @property
    def name(self) -> str:
        """What the reward models are called together."""
        return ", ".join(record["name"] for record in self.records)

    @property
    def licence(self) -> str | None:
        """Of all the weights, as far as it is known."""
        return ", ".join(dict.fromkeys(str(one["licence"]) for one in self.records if one.get("licence"))) or None

    def default_weights(self) -> dict[str, float]:
        """Return the weights of the axes where the user gives none, with the sum 1."""
        weights = {axis: one.weight for axis, one in self.axes.items()}
        return normalise_weights(weights if any(weights.values()) else None, self.axes)

    def default_rule(self) -> Rule:
        """Return the rule where the user gives none: the scales of several reward models differ."""
        return "zscore" if len(self.records) > 1 else "mean"

    def scales(self, rewards: Iterable[Mapping[str, float | None]]) -> list[str]:
        """Return what rewards that were given mean, a sentence each."""
        return scales(self.records, self.axes, rewards)

    def not_read(self, prompt: Prompt) -> tuple[str, ...]:
        """Return the parts of the prompt that no reward model reads."""
        read = {part for info in self.infos for part in info.conditions}
        return tuple(part for part in prompt.conditions() if part not in read) if self.infos else ()

    def named(self, rewards: Mapping[str, float | None]) -> Rewards:
        """Return known rewards by the names that their axes have here."""
        return {self._renamed.get(axis, axis): reward for axis, reward in rewards.items()}

    def known_of(self, candidate: Candidate) -> Rewards:
        """Return the rewards of a known candidate by the names that their axes have here, but for those of reward models
        that failed on it, which may be asked again."""
        failed = [record for record in self.records if record["name"] in candidate.faults]
        lost = {axis for record in failed for axis in axes_of(record, self.records, self.axes)}
        known = self.named(candidate.rewards)
        return {axis: reward for axis, reward in known.items() if reward is not None or axis not in lost}

    def lacks(self, rewards: Mapping[str, float | None]) -> bool:
        """Return whether a reward is still to be asked for."""
        return any(axis not in rewards for info in self.infos for axis in self.named_axes(info))

    def completes(self, rewards: Mapping[str, float | None]) -> bool:
        """Return whether all axes are known once those that these rewards lack were asked for."""
        asked = {axis for info in self.infos for axis in self.named_axes(info)}
        return all(axis in rewards or axis in asked for axis in self.axes)

    def has_judged(self, rewards: Mapping[str, float | None]) -> bool:
        """Return whether one of the reward models that are asked has given a reward among these."""
        return any(axis in rewards for info in self.infos for axis in self.named_axes(info))

    def asked_with(self, prompt: Prompt) -> "Asked":
        """Return what scores the candidates of a prompt."""
        return Asked(self, prompt)

    def named_axes(self, info: RewardInfo) -> dict[str, str]:
        """Return the axes of a reward model by the names that they have here."""
        return {f"{info.name}.{axis}" if self._several else axis: axis for axis in info.axes}


class Asked:
    """The reward models of a run, asked about one prompt, which each reads once, when it is first needed."""

    def __init__(self, panel: Panel, prompt: Prompt) -> None:
        self._panel = panel
        self._scorers = [Scorer(model, prompt) for model in panel.models]

    def __call__(
        self, pieces: Sequence[Audio], known: Sequence[Mapping[str, float | None]]
    ) -> Iterator[tuple[Rewards, dict[str, str]]]:
        """Yield for each piece, in order, its rewards with those known before, and by reward model why some are missing.

        Raises:
            RewardFailed: a reward model cannot read the prompt.
        """
        found: list[tuple[Rewards, dict[str, str]]] = [(dict(before), {}) for before in known]
        for scorer, info in zip(self._scorers, self._panel.infos, strict=True):
            names = self._panel.named_axes(info)
            places = [place for place, before in enumerate(known) if any(axis not in before for axis in names)]
            for place, result in zip(places, scorer([pieces[place] for place in places]), strict=True):
                if isinstance(result, str):
                    found[place][1][info.name] = result
                else:
                    found[place][0].update({name: result[axis] for name, axis in names.items()})
        yield from found


_MEASURED = ("calibration", "norms")
"""Facts of a reward model that come later than its rewards, and change none of them."""


def _records(infos: Sequence[RewardInfo], known: Settings | None, made_by: str | None) -> tuple[Mapping[str, Any], ...]:
    records: dict[str, Mapping[str, Any]] = {record["name"]: record for record in (known.rewards if known else ())}
    before = set(records)
    for info in infos:
        if not info.axes:
            raise InvalidInput(f"reward model {info.name!r} has no axes, so it gives no rewards; choose another")
        record = record_of(info, made_by)
        if info.name not in records:
            records[info.name] = record
            continue
        if info.name not in before:
            raise InvalidInput(f"two reward models are called {info.name!r}, so their rewards could not be told apart")
        for fact in ("version", "options", "precision"):
            if (was := records[info.name].get(fact)) is not None and _plain(was) != _plain(record[fact]):
                raise InvalidInput(
                    f"the run has rewards of {info.name!r} with {fact} {was!r}, and this one has {record[fact]!r}; "
                    "rank its files into another folder instead"
                )
        # with what earlier documents did not record of it, and what was measured of it since
        records[info.name] = {**record, **records[info.name], **{fact: record[fact] for fact in _MEASURED}}
    return tuple(records.values())


def _plain(value: Any) -> Any:
    """Return a value as it comes back from a document, where a tuple is a list."""
    return json.loads(json.dumps(value, default=str))


def record_of(info: RewardInfo, made_by: str | None) -> dict[str, Any]:
    """Return what a document holds of a reward model.

    What a gap between its rewards means was measured on music that it knows, and does not hold for other.
    """
    return {
        "name": info.name,
        "version": info.version,
        "options": dict(info.options),
        "encoders": list(info.encoders),
        "trained_on": list(info.trained_on),
        "device": info.device,
        "precision": info.precision,
        "licence": info.licence,
        "axes": {
            name: {"meaning": axis.meaning, "weight": axis.weight, "low": axis.low, "high": axis.high}
            for name, axis in info.axes.items()
        },
        "calibration": info.calibration if limits_of(info, made_by) is None else None,
        "norms": None if info.norms is None else asdict(info.norms),
    }


def _axes_of(known: Settings | None, name: str) -> Iterable[str]:
    """Return the axes that a reward model has in a known run, by their names there."""
    if known is None:
        return []
    if len(known.rewards) == 1:
        return list(known.weights)
    return [axis for axis in known.weights if axis.startswith(f"{name}.")]


def resolve_rewards(reward: RewardChoice, made_by: str | None) -> list[object]:
    """Return what is chosen as reward models, each found by its name and not loaded.

    Args:
        reward: as `rerank.generate` takes it.
        made_by: the generator whose audio they are for; None where it is not known, or not by one.

    Raises:
        InvalidInput: there is none, or one cannot be found.
    """
    choices = list(reward) if isinstance(reward, list | tuple) else [reward]
    if not choices:
        raise InvalidInput("the list of reward models is empty; name at least one")
    found = [resolve("reward", choice, made_by=made_by) for choice in choices]
    for choice in found:
        info = known_info("reward", choice)
        is_auto = isinstance(choice, Choice) and choice.name == "auto"  # which has said so itself
        if not is_auto and isinstance(info, RewardInfo) and (limits := limits_of(info, made_by)):
            logger.info("%s", limits)
    return list(found)


def check_known_axes(request: Request, rewards: Sequence[object], prompt: Prompt) -> None:
    """Refuse wrong weights and floors as far as the axes are known before anything is loaded.

    Args:
        request: what is asked for.
        rewards: as `resolve_rewards` returns them.
        prompt: of all candidates.

    Raises:
        InvalidInput: as `Request.check_axes`.
    """
    infos = [known_info("reward", reward) for reward in rewards]
    if all(isinstance(info, RewardInfo) for info in infos):
        known = cast(list[RewardInfo], infos)
        request.check_axes(Panel.axes_of(known), prompt, [info.name for info in known])


def load_rewards(rewards: Sequence[object], request: Request) -> list[Reward]:
    """Return reward models, loaded.

    Raises:
        RerankError: one cannot be loaded.
    """
    return [cast(Reward, load("reward", reward, {}, offered=request.offered)) for reward in rewards]
