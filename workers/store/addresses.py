"""Addresses of stores, and the secrets that some hold: these are never shown and never kept."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

_SECRET_NAME = re.compile(r"secret|passw|token|signature|account_key|access_key|^sig$|^sas", re.IGNORECASE)

#: In what stands before the first slash: a colon after which no port comes.
_NO_PORT = re.compile(r":(?!\d+$)")
#: Schemes whose addresses have no user but "anonymous": another one is a secret.
_USERLESS = {"gs", "gcs"}


class Address(NamedTuple):
    """A URI and the secrets that were in it."""

    bare: str
    "Without them."
    user: str = ""
    password: str = ""
    options: tuple[str, ...] = ()
    "Names of the secret ones in its query."
    muddled: bool = False
    "What stands before the @ has signs that have to be written as %2F and the like."

    @property
    def has_secrets(self) -> bool:
        return bool(self.password or self.options)


def parse_address(root: str) -> Address:
    """A store's root, a path or a URI, taken apart."""
    scheme, separator, rest = root.partition("://")
    if not separator:
        return Address(root)
    place, _, query = rest.partition("?")
    first = place.partition("/")[0]
    user, password, muddled = "", "", False
    if _cuts_login(first, query):
        login, _, rest = rest.rpartition("@")
        place, _, query = rest.partition("?")
        user, _, password = login.partition(":")
        muddled = True
    elif "@" in first:
        login, _, place = place.rpartition("@") if first.count("@") > 1 else place.partition("@")
        user, _, password = login.partition(":")
    elif "@" in place and _NO_PORT.search(first):  # a secret with a slash in it, most likely
        login, _, place = place.rpartition("@")
        user, _, password = login.partition(":")
        muddled = True
    if scheme in _USERLESS and not password and user != "anonymous":
        user, password = "", user
    options = [part for part in query.split("&") if part]
    secret = [part for part in options if _is_secret(part)]
    kept = "&".join(part for part in options if part not in secret)
    login = f"{user}@" if user and not password and not muddled else ""
    bare = f"{scheme}://{login}{place}" + (f"?{kept}" if kept else "")
    names = tuple(part.partition("=")[0] for part in secret)
    return Address(bare, unquote(user), unquote(password), names, muddled)


def _cuts_login(first: str, query: str) -> bool:
    """Whether the ? between a place's first part and its query stands in a secret, most likely: what comes before it is
    a name and no port, or what comes after it is no option."""
    before, at, _ = query.partition("@")
    if not at or ":" not in first:
        return False
    return "=" not in before or ("@" not in first and bool(_NO_PORT.search(first)))


def _is_secret(option: str) -> bool:
    """Whether an option is a secret by its name, or holds a login (`endpoint_override=http://user:password@host`)."""
    name, _, value = option.partition("=")
    return bool(_SECRET_NAME.search(name)) or "@" in unquote(value)


def without_secrets(text: str, root: str) -> str:
    """What somebody says of a root, as it may be shown."""
    found = parse_address(root)
    if not found.has_secrets and not found.muddled:
        return text
    shown = text.replace(root, found.bare)
    for secret in filter(None, (found.password, root.partition("://")[2].partition("@")[0])):
        shown = shown.replace(secret, "***")
    return shown
