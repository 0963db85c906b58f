"""Where a node keeps what it fetched or checked: on a disk of its own, and never on one that nodes share.

On a shared disk the nodes would wait for each other's locks, and the first epoch would read its pictures one by one
over the network.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

#: Kinds of disks that are reached over a network, as the kernel calls them; those of FUSE may be anything.
NETWORK = frozenset(
    "nfs nfs4 cifs smb2 smb3 smbfs afs ceph lustre gpfs beegfs fhgfs orangefs pvfs2 glusterfs panfs wekafs 9p "
    "fuse.sshfs fuse.glusterfs fuse.ceph fuse.s3fs fuse.gcsfuse fuse.rclone fuse.goofys fuse.juicefs".split()
)
MOUNTS = Path("/proc/self/mountinfo")


def cache_folder() -> Path:
    """This node's cache: MUSTER_CACHE, or muster below the user's cache folder, or, where that is on a disk that nodes
    share, below the folder for temporary files."""
    if chosen := os.environ.get("MUSTER_CACHE", "").strip():
        return Path(chosen).expanduser().absolute()
    usual = Path(os.environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache").expanduser() / "muster"
    if not network_disk(usual):
        return usual
    return Path(tempfile.gettempdir()) / f"muster-cache-{os.getuid()}"


def network_disk(path: Path, mounts: Path = MOUNTS) -> str:
    """The kind of disk that a path is on where that is reached over a network, else ""; "" where that is not known."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    whole, found, kind = os.path.realpath(path), "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        if len(before.split()) < 5 or not after:
            continue
        point = before.split()[4].encode().decode("unicode_escape")
        inside = whole == point or whole.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found):  # of two on the same folder the later one counts
            found, kind = point, after.split()[0]
    return kind if kind in NETWORK else ""
