"""The code of a network of one's own, `module:factory`: where it is and what it is. None of it is imported here.

In requests and keys its name ends in the digest of the whole package, `module:factory@digest`, so that other code is
another network.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from muster.workers.errors import UsageError

_NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)(?:@([0-9a-f]{16}))?", re.ASCII)
#: A package of networks is small. What is larger is another one's, or holds what is no code.
MOST_FILES, MOST_BYTES = 1000, 16 << 20
#: What a module that is in no package is called as a package's one file.
ALONE = "__init__.py"


@dataclass(frozen=True)
class OwnNetwork:
    """What a name `module:factory` or `module:factory@digest` says."""

    module: str
    factory: str
    digest: str
    "16 hex digits of the package's code; empty where it is not known yet."

    @property
    def asked(self) -> str:
        """As a user writes it."""
        return f"{self.module}:{self.factory}"

    @property
    def name(self) -> str:
        """As a key holds it."""
        return f"{self.asked}@{self.digest}" if self.digest else self.asked

    @property
    def top(self) -> str:
        """The package, or the module that is in none."""
        return self.module.partition(".")[0]


def own_network(backbone: object) -> OwnNetwork | None:
    """What the name of a backbone of one's own says; None for any other."""
    match = _NAME.fullmatch(backbone) if isinstance(backbone, str) else None
    return OwnNetwork(match[1], match[2], match[3] or "") if match else None


def with_digest(backbone: str) -> str:
    """The name with the digest of the code that is here, for a backbone of one's own; any other as it is.

    Raises UsageError if there is no such package, or if it is other code than the digest that is given says.
    """
    network = own_network(backbone)
    if network is None:
        return backbone
    return OwnNetwork(network.module, network.factory, digest_of(found(network))).name


def found(network: OwnNetwork) -> Path:
    """The folder of its package, or its module's one file: in the current folder, or else where Python looks. Raises
    UsageError if there is none, or if it has other code than the name's digest says."""
    spec = importlib.machinery.PathFinder.find_spec(network.top, [str(Path.cwd()), *sys.path])
    places = [] if spec is None else [*(spec.submodule_search_locations or []), spec.origin]
    place = next((Path(one) for one in places if one), None)
    if place is None or not (place.is_dir() or place.suffix == ".py"):
        raise UsageError(
            f"--backbone {network.asked}: there is no package or module {network.top} in {Path.cwd()}, or where Python "
            "looks (PYTHONPATH)."
        )
    if network.digest and digest_of(place) != network.digest:
        raise UsageError(
            f"--backbone {network.asked}: the code in {place} is not the code that this network was begun with "
            f"({network.digest}). Put that back, or launch anew with the code that is here."
        )
    return place


def files_of(place: Path) -> list[Path]:
    """A package's files, in the order of their names, or the one of a module; without what Python and programs leave.

    Raises UsageError for what is no package of networks."""
    if place.is_file():
        return [place]
    kept = []
    for path in sorted(place.rglob("*")):
        inner = path.relative_to(place).parts
        if path.is_file() and "__pycache__" not in inner and not any(part.startswith(".") for part in inner):
            kept.append(path)
    size = sum(path.stat().st_size for path in kept)
    if len(kept) > MOST_FILES or size > MOST_BYTES:
        raise UsageError(
            f"The package {place} has {len(kept):,} files of {size / 2**20:,.0f} MiB, and all of it would travel with "
            f"the job: at most {MOST_FILES:,} files and {MOST_BYTES >> 20} MiB. Put the networks into a package of "
            "their own."
        )
    return kept


def digest_of(place: Path) -> str:
    """16 hex digits of the names and the bytes of a package's files; a module is a package of one file."""
    whole = hashlib.sha256()
    for path in files_of(place):
        name = ALONE if path == place else path.relative_to(place).as_posix()
        data = path.read_bytes()
        whole.update(f"{name}\n{len(data)}\n".encode())
        whole.update(data)
    return whole.hexdigest()[:16]


def copied(network: OwnNetwork, folder: Path) -> Path:
    """A copy of its code below a folder, to travel with a job: always a package, as Ray takes folders alone. Raises
    UsageError as `found` does."""
    place = found(network)
    for path in files_of(place):
        target = folder / network.top / (path.relative_to(place) if path != place else ALONE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder / network.top
