"""Audio towers: one network for all reward models that use the same weights in the same way.

A tower is told from others by a hash of its tensors and by its sizes, never by a name: a published reward model carries
its own copy of the encoder that others download. Where there is nothing yet to compare it with, hashing goes on beside
whatever comes after loading, and is waited for where the answer is needed first.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

from rerank.models.muq import Muq
from rerank.rewards.precision import Precision, autocast, set_precision

log = logging.getLogger("rerank")

Network = TypeVar("Network", bound=nn.Module)

_HASHERS = 4
"""Threads that hash the tensors of a tower."""


class Tower(Generic[Network]):
    """A network that maps waveforms `[batch, time]` to `[batch, ...]`, ready on its device at its precision.

    Args:
        network: it must not change any more.
        name: in messages.
        precision, device: that it is at.
        digests: of its tensors and sizes, before anything was done to them; a tower without them has no key.

    Attributes:
        user: the reward model that it was loaded with.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        precision: Precision,
        device: torch.device,
        digests: "Sequence[Future[bytes]]" = (),
        user: str = "",
    ) -> None:
        self.network, self.name, self.precision, self.device, self.user = network, name, precision, device, user
        self._digests = digests

    def __call__(self, waveforms: Tensor, make: Callable[[Network, Tensor], Tensor] | None = None) -> Tensor:
        """Return what the network, or `make` with it, makes of waveforms.

        Shape:
            `[batch, time]` -> `[batch, ...]`
        """
        with autocast(self.device, self.precision):
            waveforms = waveforms.to(self.device)
            made: Tensor = self.network(waveforms) if make is None else make(self.network, waveforms)
        return made

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of its tensors and sizes."""
        assert self._digests, f"{self.name} was not hashed"
        return _joined(self._digests)

    @property
    def key(self) -> str:
        """Tells what it makes from what others make: weights, precision and kind of device."""
        return f"{self.digest} {self.precision} {self.device.type}"


_TOWERS: "WeakSet[Tower[Any]]" = WeakSet()
_LOCK = threading.Lock()


def share(
    network: Network,
    *,
    name: str,
    sizes: object,
    precision: Precision,
    device: torch.device,
    user: str,
    fuse: Callable[[Network], object] | None = None,
) -> Tower[Network]:
    """Return a tower with this network, or the one of another reward model that is equal to it.

    The network that is left over is for the caller to drop. A tower goes when no reward model holds it any more.

    Args:
        network: as it was published, on the CPU; where it is taken, it is changed for good.
        name: of the network, in messages.
        sizes: whose `repr` says all that the network depends on beside its tensors.
        precision, device: to bring it to.
        user: name of the reward model.
        fuse: joins weights that are used together.
    """
    published = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    about = f"{type(network).__name__} {sizes!r}"
    digests: Sequence[Future[bytes]] = ()
    with _LOCK:
        for tower in [*_TOWERS]:
            if (tower.name, tower.precision, _place(tower.device)) == (name, precision, _place(device)):
                digests = digests or _hashed(published, about)
                if tower.digest == _joined(digests):
                    log.info("%s shares %s with %s: same weights", user, name, tower.user)
                    return tower
        network.eval()
        if fuse is not None:
            fuse(network)
        set_precision(network.to(device), precision)
        made = Tower(network, name, precision, device, digests or _hashed(published, about), user)
        _TOWERS.add(made)
        return made


def share_muq(network: Muq, precision: Precision, device: torch.device, user: str) -> Tower[Muq]:
    """Return the tower of a MuQ as it was published, see `share`."""
    return share(
        network, name="MuQ", sizes=network.config, precision=precision, device=device, user=user, fuse=Muq.fuse
    )  # fmt: skip


def _place(device: torch.device) -> tuple[str, int]:
    """Return which device it is: "cuda" is the first one."""
    return device.type, device.index or 0


def _hashed(tensors: Mapping[str, Tensor], about: str) -> list[Future[bytes]]:
    """Begin to hash tensors, the largest first, so that no thread is left with one at the end."""
    pool = ThreadPoolExecutor(_HASHERS, thread_name_prefix="hash")
    digests = [pool.submit(_hash, about, torch.empty(0))]
    largest_first = sorted(tensors.items(), key=lambda named: -named[1].nbytes)
    digests += [pool.submit(_hash, name, tensor) for name, tensor in largest_first]
    pool.shutdown(wait=False)
    return digests


def _hash(about: str, tensor: Tensor) -> bytes:
    found = hashlib.sha256(f"{about} {tensor.dtype} {[*tensor.shape]} ".encode())
    found.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.digest()


def _joined(digests: "Sequence[Future[bytes]]") -> str:
    return hashlib.sha256(b"".join(sorted(one.result() for one in digests))).hexdigest()
