"""What `generate`, `rank` and `score` share, checked before anything is loaded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rerank.data import Prompt, check_whole
from rerank.device import check_device
from rerank.errors import InvalidInput
from rerank.filters import Filters
from rerank.protocols import Axis
from rerank.rules import Rule, check_rule, check_weights, normalise_weights

MAX_CANDIDATES = 1024


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one call asks for; None where the user gave nothing.

    Attributes:
        n: how many candidates there are to be.
        top_k: how many of the best the ranking gives back.
        weights, rule, filters: as given.
        offered: options for generators and reward models that take them.
    """

    n: int
    top_k: int | None
    weights: Mapping[str, float] | None
    rule: Rule | None
    filters: Filters | None
    offered: Mapping[str, Any]

    @classmethod
    def checked(
        cls,
        n: int,
        top_k: int | None,
        weights: Mapping[str, float] | None,
        rule: Rule | None,
        filters: Filters | None,
        device: str,
    ) -> "Request":
        """Return what is asked for.

        Raises:
            InvalidInput: one cannot be used.
        """
        check_whole("n", n, 1, MAX_CANDIDATES)
        if top_k is not None:
            check_whole("top_k", top_k, 1, n)
        check_device(device)
        if weights is not None:
            check_weights(weights)
        if rule is not None:
            check_rule(rule)
        if filters is not None and not isinstance(filters, Filters):
            raise InvalidInput(
                f"filters must be a rerank.Filters, got {type(filters).__name__}; pass Filters(silent=-50)"
            )
        return cls(
            n=int(n),
            top_k=None if top_k is None else int(top_k),
            weights=weights,
            rule=rule,
            filters=filters,
            # "auto" is what they do by themselves
            offered={} if device == "auto" else {"device": device},
        )

    def check_axes(self, axes: Mapping[str, Axis], prompt: Prompt, models: Sequence[str] = ()) -> None:
        """Refuse weights and floors for axes that there are not, or that do not apply to the prompt.

        Args:
            axes: all that there are.
            prompt: of all candidates.
            models: names of the reward models that the axes are of.

        Raises:
            UnknownName: naming the axis.
            InvalidInput: an axis is named twice, or several reward models have it; no axis that has a weight applies, or
                one with a floor does not.
        """
        given = normalise_weights(self.weights, axes, models)
        weights = given if self.weights is not None else {name: axis.weight for name, axis in axes.items()}
        idle = {name: why for name, axis in axes.items() if (why := _why_idle(axis, prompt))}
        weighed = [name for name, weight in weights.items() if weight] or list(axes)
        if weighed and all(name in idle for name in weighed):
            raise InvalidInput(
                f"no axis that has a weight applies: {weighed[0]} {idle[weighed[0]]}; give what it needs (--prompt, "
                "--lyrics, --reference), or weigh another axis"
            )
        for name in self.filters_on(axes, models).floors or ():
            if name in idle:
                raise InvalidInput(f"a floor on {name}, which does not apply: it {idle[name]}; leave it out")

    def filters_on(self, axes: Collection[str], models: Sequence[str] = ()) -> Filters:
        """Return the filters, with floors on these axes."""
        return (self.filters or Filters()).on_axes(axes, models)


def _why_idle(axis: Axis, prompt: Prompt) -> str | None:
    """Return why there is no such reward for a prompt, in words; None where there is one."""
    here = prompt.conditions()
    if axis.applies(here):
        return None
    lacking, joined = (axis.needs, " and ") if axis.needs else (axis.needs_any, " or ")
    parts = joined.join(part for part in ("text", "lyrics", "reference") if part in lacking)
    return f"needs {parts}, and the prompt has {'only ' + ' and '.join(here) if here else 'no part'}"
