"""Credentials in the address of a store: taken out before anything keeps the address or shows it.

A run's files, events, logs and report hold the store's address, and a job's request goes to the cluster with it.
"""

from __future__ import annotations

import os

from muster.workers.errors import UsageError
from muster.workers.store.addresses import parse_address

WHERE = "A run's files and messages hold it, and anybody who reads them would have them."

#: The pair of keys that this command was given in addresses.
_typed: set[tuple[str, str]] = set()


def taken_out(place: str) -> str:
    """A place as it may be kept. Keys of S3 go where S3 looks for them: into the environment of this process, and of
    the local head's jobs. Raises UsageError for other secrets and for a second pair of keys, without showing them."""
    found = parse_address(place)
    if found.muddled:
        raise UsageError(
            f"The address of {found.bare} is no URI: in what stands before the @, write / as %2F, ? as %3F, : as "
            "%3A and @ as %40; or leave it out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if not found.has_secrets:
        return place
    scheme = place.partition("://")[0]
    if found.options or scheme != "s3" or not found.user:
        what = f"its {', '.join(found.options)}" if found.options else "a password"
        raise UsageError(
            f"The address of {found.bare} holds {what}. {WHERE} Give secrets in the environment: as AWS_..., "
            f"AZURE_STORAGE_... or GOOGLE_APPLICATION_CREDENTIALS, or as FSSPEC_{scheme.upper()}_PASSWORD."
        )
    if _typed and (found.user, found.password) not in _typed:
        raise UsageError(
            f"The address of {found.bare} holds other keys than an address before it, and S3 is asked with one pair "
            "for all places. Give keys that may use all of them in one address, and none in the others."
        )
    _typed.add((found.user, found.password))
    os.environ.update(AWS_ACCESS_KEY_ID=found.user, AWS_SECRET_ACCESS_KEY=found.password)
    os.environ.pop("AWS_SESSION_TOKEN", None)  # another key's
    return found.bare


def refused(place: str) -> str:
    """The same for a store of a cluster's nodes, which have credentials of their own: none are sent to them. Raises
    UsageError for any secret."""
    found = parse_address(place)
    if found.has_secrets or found.muddled:
        raise UsageError(
            f"The address of {found.bare} holds credentials. {WHERE} With --address, the cluster's nodes need "
            "their own: leave them out."
        )
    return place
