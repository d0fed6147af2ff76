"""How a name that can be loaded is written down.

An entry stands for `"module:attribute"` text, imported only when it is loaded. What the text names is a factory (a class
or a function) that takes keyword options and returns a `Generator` or a `Reward`.
"""

import contextlib
import importlib
import logging
import numbers
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, Literal, cast

from rerank.errors import MissingDependency, RerankError, one_line, plain
from rerank.protocols import Generator, GeneratorInfo, Reward, RewardInfo

Kind = Literal["generator", "reward"]

logger = logging.getLogger("rerank")

_PATIENCE = 5.0

_MARKED = 100_000
"""Characters of a file in which a marker is looked for."""


@dataclass(frozen=True)
class Download:
    """Weights that are downloaded from the Hugging Face hub when they are first used.

    Attributes:
        size: of the weights, in bytes.
        files: that are needed, by repository; "a|b" for one of two.
    """

    size: int
    files: Mapping[str, tuple[str, ...]]

    def is_cached(self) -> bool:
        """Return whether all files are on this machine."""
        from huggingface_hub import try_to_load_from_cache

        def here(repository: str, names: str) -> bool:
            return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names.split("|"))

        return all(here(repository, names) for repository, files in self.files.items() for names in files)

    def is_offline(self) -> bool:
        """Return whether the user has taken the hub offline."""
        from huggingface_hub import constants

        return bool(constants.HF_HUB_OFFLINE)

    def obstacle(self) -> str | None:
        """Return why nothing can be downloaded, in words; None where the hub answers, for which it has a few seconds."""
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError

        if self.is_offline():
            return "it is not on this machine, and HF_HUB_OFFLINE is set"
        repository, names = next(iter(self.files.items()))
        url, limit = hf_hub_url(repository, names[0].split("|")[0]), patience()
        answers: list[str | None] = []

        def ask() -> None:
            with contextlib.suppress(
                Exception
            ):  # the connection's, of a library that depends on the version of the hub's
                try:
                    get_hf_file_metadata(url, timeout=limit)
                except HfHubHTTPError as error:
                    answers.append(answer_of(error))
                else:
                    answers.append(None)

        # in a thread: neither finding the address nor an answer that only trickles in knows a limit of time
        asking = Thread(target=ask, daemon=True)
        asking.start()
        asking.join(limit)
        if not answers:
            return f"it is not on this machine, and {constants.ENDPOINT} does not answer"
        return f"it is not on this machine, and {constants.ENDPOINT} answers {answers[0]}" if answers[0] else None


def answer_of(error: Any) -> str:
    """Return what the hub answered, in a few words, such as "503 Service Unavailable"."""
    response = getattr(error, "response", None)
    if response is None:
        return one_line(error)
    return plain(f"{response.status_code} {response.reason_phrase}")


def patience() -> float:
    """Return the seconds that the hub has for a first answer: five, unless the variable HF_HUB_ETAG_TIMEOUT says otherwise."""
    from huggingface_hub import constants

    told: float = constants.HF_HUB_ETAG_TIMEOUT
    return told if told != constants.DEFAULT_ETAG_TIMEOUT else _PATIENCE


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A name that can be loaded.

    Attributes:
        kind: "generator" or "reward".
        name: it is loaded by.
        target: `"module:attribute"` of its factory.
        package: the distribution it comes from.
        version: of that distribution.
        info: what the built-in ones are, known without importing them; None for plugins.
        download: weights that it needs; None where they are in the package, and for plugins.
        marker: a file by which a folder is known to hold weights for it, and after a colon what stands in the file; None
            where it takes no folder by itself.
        needs_folder: whether it takes a folder of the user and nothing else, since there is nothing to download.
        fixed: options that are given to the factory and are not for users.
        rivals: other packages that have something of the same kind and name: it cannot be named until one is chosen.
    """

    kind: Kind
    name: str
    target: str
    package: str = "rerank-music"
    version: str = "built in"
    info: GeneratorInfo | RewardInfo | None = None
    download: Download | None = None
    marker: str | None = None
    needs_folder: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    rivals: tuple[str, ...] = ()

    def factory(self) -> Callable[..., Any]:
        """Import and return the factory.

        Raises:
            MissingDependency: it needs a package that is not installed.
            RerankError: the module cannot be imported, or what is named is not there or no factory.
        """
        module, _, attribute = self.target.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for name in attribute.split("."):
                found = getattr(found, name)
        except RerankError:
            raise
        # a plugin is anybody's code: importing it may raise anything, or try to end the process
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and not f"{module}.".startswith(f"{error.name}."):
                raise MissingDependency(
                    f"{self.kind} {self.name!r} of {self.package} needs {error.name!r}, which is not installed; "
                    f"run: pip install {error.name}"
                ) from error
            raise self._broken(one_line(error)) from error
        if not callable(found):
            raise self._broken(f"{self.target} is a {type(found).__name__}; expected a class or a function")
        return cast(Callable[..., Any], found)

    def make(self, factory: Callable[..., Any], options: Mapping[str, Any]) -> Generator | Reward:
        """Return what the factory makes with these options.

        Raises:
            RerankError: the factory raises, or what it makes is no generator or reward model.
        """
        try:
            made = factory(**{**self.fixed, **options})
            problem = problem_of(made, self.kind)
        except RerankError:
            raise
        except (Exception, SystemExit) as error:
            raise self._broken(one_line(error)) from error
        if problem:
            raise self._broken(f"it makes a {problem}")
        return cast(Generator | Reward, made)

    def is_in(self, folder: str) -> bool:
        """Return whether a folder is marked as holding weights for it."""
        name, _, text = (self.marker or "").partition(":")
        path = os.path.join(folder, name)
        if not name or not os.path.isfile(path):
            return False
        with open(path, encoding="utf-8", errors="replace") as file:
            return text in file.read(_MARKED)

    def problem(self) -> str | None:
        """Return why it cannot be loaded, in words; None where nothing stands in the way so far. It is imported."""
        if self.rivals:
            return (
                f"{' and '.join([self.package, *self.rivals])} each have a {self.kind} called {self.name!r}; uninstall "
                "all but one, or list the packages that may add names in RERANK_PLUGINS"
            )
        try:
            self.factory()
        except RerankError as error:
            return str(error)
        return None

    def _broken(self, reason: str) -> RerankError:
        return RerankError(f"{self.kind} {self.name!r} of {self.package} cannot be loaded: {reason}")


def problem_of(found: object, kind: Kind) -> str | None:
    """Return what it is and why it is no generator or reward model, in words; None where it is one."""
    if isinstance(found, type):
        return f"{found.__name__}, which is a class; pass {found.__name__}()"
    name = type(found).__name__
    needed = ("info", "generate") if kind == "generator" else ("info", "prepare", "score")
    try:
        missing = [part for part in needed if not hasattr(found, part)]
        if missing:
            return f"{name}, which lacks {', '.join(missing)}"
        info = cast(Any, found).info
    # a property is anybody's code
    except (Exception, SystemExit) as error:
        logger.debug("the info of %s fails", name, exc_info=True)
        return f"{name}, whose info fails: {one_line(error)}"
    expected = GeneratorInfo if kind == "generator" else RewardInfo
    if not isinstance(info, expected):
        return f"{name}, whose info is a {type(info).__name__}; expected a rerank.protocols.{expected.__name__}"
    fault = _info_fault(info)
    return fault and f"{name}, whose info.{fault}"


_KINDS: dict[str, tuple[Any, str]] = {
    "name": (str, "a text"),
    "version": (str, "a text"),
    "licence": (str, "a text"),
    "device": (str, "a text"),
    "sample_rate": (numbers.Integral, "a whole number"),
    "channels": (numbers.Integral, "a whole number"),
    "min_duration": (numbers.Real, "a number"),
    "max_duration": (numbers.Real, "a number"),
    "precision": (str, "a text"),
    "options": (Mapping, "a dict"),
}
"""What a fact of an info must be, since documents and messages hold it."""


def _info_fault(info: GeneratorInfo | RewardInfo) -> str | None:
    """Return which fact of an info is none, in words; None where all are."""
    for fact, (kind, told) in _KINDS.items():
        value = getattr(info, fact, None)
        if hasattr(info, fact) and (isinstance(value, bool) or not isinstance(value, kind)):
            return f"{fact} is a {type(value).__name__}; expected {told}"
    return None
