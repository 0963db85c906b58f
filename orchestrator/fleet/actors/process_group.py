"""The process group of a model's ranks, which meet at their node's address on the Ray cluster and nowhere else.

torch's own meeting place listens on every interface of the machine and obeys whoever speaks to it: on a local head,
which is on loopback, ranks must not open a port to the network.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from torch import distributed
from torch._C._distributed_c10d import PrefixStore, TCPStore

#: Kept for as long as the process lives: the ranks meet there.
_served: list[TCPStore] = []


@dataclass
class GroupConfig(TorchConfig):
    """Ray Train's, with the meeting place of this module."""

    store: str = ""
    pack: str = ""
    "The pack that the ranks will open."

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        size, within = len(worker_group), backend_config.timeout_s
        if backend_config.pack:
            worker_group.execute(fetch, backend_config.store, backend_config.pack)
        address, port = worker_group.execute_single(0, serve, size, within)
        joining = [
            worker_group.execute_single_async(
                rank, join, str(backend_config.backend), rank, size, address, port, within
            )
            for rank in range(size)
        ]
        ray.get(joining)


def fetch(store: str, pack: str) -> None:
    """Brings a pack to this node before the ranks form a group: from then on they wait for each other in collectives,
    whose patience is shorter than a download may be. What goes wrong is met again, and told, by the training itself."""
    from muster.workers.packs.cache import cache_folder
    from muster.workers.packs.pack import open_pack
    from muster.workers.store.layout import Store

    with contextlib.suppress(Exception):
        open_pack(Store(store).pack(pack), pack, cache_folder())


def serve(size: int, within_s: float) -> tuple[str, int]:
    """Opens the meeting place in this process; its address and port."""
    address = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family, backlog=2 * size)
    port = int(listener.getsockname()[1])
    _served.append(
        TCPStore(
            address, port, size, is_master=True, timeout=timedelta(seconds=within_s), wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
    )  # fmt: skip
    return address, port


def join(backend: str, rank: int, size: int, address: str, port: int, within_s: float) -> None:
    """Makes this process a rank of the group that meets there."""
    within = timedelta(seconds=within_s)
    if ipaddress.ip_address(address).is_loopback:  # what ranks send each other goes the same way
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    store = TCPStore(address, port, size, is_master=False, timeout=within)
    distributed.init_process_group(
        backend=backend, store=PrefixStore("ranks", store), rank=rank, world_size=size, timeout=within
    )
