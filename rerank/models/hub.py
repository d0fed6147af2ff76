"""Files of published models: from the Hugging Face hub, or from a folder in the same layout."""

import contextlib
import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from rerank.errors import InvalidInput, WeightsError, one_line
from rerank.files import as_path
from rerank.models.patience import GaveUp, limited
from rerank.names.entry import answer_of, patience

_TRIES = 2


@dataclass(frozen=True)
class Source:
    """Where the files of a model are: a folder, or a repository of the Hugging Face hub.

    Attributes:
        place: the folder, or the id of the repository.
        revision: branch, tag or commit of the repository; None for its main branch.
    """

    place: Path | str
    revision: str | None = None

    @classmethod
    def given(cls, path: str | Path | None, repository: str, revision: str | None) -> "Source":
        """Return the folder that a user gives, or the repository where none is given.

        Raises:
            InvalidInput: there is no such folder, or it is given a revision.
        """
        if path is None:
            return cls(repository, revision)
        if revision is not None:
            raise InvalidInput(
                f"revision {revision!r} is one of {repository} on the hub; a folder has none: leave it out"
            )
        folder = as_path("path", path)
        if not folder.is_dir():
            raise InvalidInput(f"there is no folder {folder}; give one that holds the files of {repository}")
        return cls(folder)

    @classmethod
    def named(cls, name: str, beside: Path) -> "Source":
        """Return what a config file at `beside` means by `name`: a path if it starts with ./, ../ or /, else a hub id."""
        if name.startswith(("./", "../", "/")):
            return cls((beside.parent / name).resolve())
        return cls(name)

    def file(self, name: str) -> Path:
        """Return the path of a file, downloaded if it is not there yet (never in the hub's offline mode).

        Raises:
            WeightsError: it is missing, or cannot be downloaded.
        """
        if isinstance(self.place, Path):
            path = self.place / name
            if not path.is_file():
                raise WeightsError(
                    f"there is no file {path}; a published model is a folder with its files by their names"
                )
            return path
        place, limit = self.place, patience()

        def download() -> str:
            if not isinstance(try_to_load_from_cache(place, name, revision=self.revision), str):
                url = hf_hub_url(place, name, revision=self.revision)
                _ask(lambda: get_hf_file_metadata(url, timeout=limit))
            with limited(limit):
                return hf_hub_download(place, name, revision=self.revision, etag_timeout=limit)

        return self._downloaded(name, download)

    def folder(self, patterns: Sequence[str]) -> Path:
        """Return the folder that holds the files of a repository, those that `patterns` name downloaded if need be.

        Args:
            patterns: of the names of files, as the shell takes them: `"*.json"`, `"vae/*"`.

        Raises:
            WeightsError: they are missing, or cannot be downloaded.
        """
        if isinstance(self.place, Path):
            return self.place
        place, wanted = self.place, list(patterns)

        def fetch(**options: Any) -> str:
            with limited(patience()):
                found: str = snapshot_download(place, revision=self.revision, allow_patterns=wanted, **options)
            return found

        def download() -> str:
            try:
                _ask(lambda: HfApi().model_info(place, revision=self.revision, timeout=patience()))
            except HfHubHTTPError:
                raise
            # it does not answer; what was downloaded before does without it
            except Exception:
                with contextlib.suppress(LocalEntryNotFoundError):
                    return fetch(local_files_only=True)
                raise
            return fetch()

        return self._downloaded("model", download)

    def _downloaded(self, name: str, download: Callable[[], str]) -> Path:
        """Return the path of what is downloaded, or say in one clear line why `name` cannot be."""
        try:
            return Path(download())
        except GatedRepoError as error:
            raise WeightsError(
                f"{self.place} needs its licence accepted at https://huggingface.co/{self.place}, and `hf auth login`"
            ) from error
        except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError, HFValidationError) as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise WeightsError(self._unreachable(name, error)) from error
            where = f"{self.place} at {self.revision}" if self.revision else self.place
            raise WeightsError(f"the Hugging Face hub has no {name} in {where}") from error
        # what the hub, its transfer and the connection raise is anybody's
        except Exception as error:
            raise WeightsError(self._unreachable(name, error)) from error

    def _unreachable(self, name: str, error: BaseException) -> str:
        why, remedy = one_line(error), "go online, or give a local folder"
        if constants.HF_HUB_OFFLINE:
            why, remedy = "HF_HUB_OFFLINE is set", "unset it, or give a local folder"
        elif isinstance(error, LocalEntryNotFoundError):
            if error.__cause__ is not None:  # which says more
                return self._unreachable(name, error.__cause__)
            why = "no connection"
        elif _is_timeout(error):
            why = f"no answer from {constants.ENDPOINT}"
        elif isinstance(error, GaveUp):
            why = f"{constants.ENDPOINT} broke off or did not answer, twice"
        elif isinstance(error, HfHubHTTPError):
            why = f"{constants.ENDPOINT} answers {answer_of(error)}"
        elif isinstance(error, FileMetadataError):
            why = f"{constants.ENDPOINT} does not answer as a hub does"
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
            why, remedy = "the disk is full", "free space, or move the cache: HF_HOME"
        elif isinstance(error, OSError) and error.errno is None:  # so the library says that the sizes differ
            why = "what came is not the whole file"
        return f"{name} of {self.place} is not on this machine and cannot be downloaded ({why}); {remedy}"


def _ask(question: Callable[[], object]) -> None:
    """Ask the hub something small, and again if it does not answer, before anything is downloaded from it.

    Without this its library would ask by itself, six times and for half a minute at least, and print a line each time.

    Raises:
        HfHubHTTPError: its answer is no.
        Exception: it does not answer.
    """
    for left in reversed(range(_TRIES)):
        try:
            if not constants.HF_HUB_OFFLINE:
                question()
        except HfHubHTTPError:
            raise
        # the connection's, of a library that depends on the version of the hub's
        except Exception:
            if not left:
                raise
        else:
            return


def _is_timeout(error: BaseException) -> bool:
    return "Timeout" in type(error).__name__


def files_of(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the files of a folder that patterns name, as the shell takes them, in alphabetical order."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
