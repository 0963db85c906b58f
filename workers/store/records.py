"""Commit records, and the JSON of the store: what is written last, and vouches for its own content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muster.workers.errors import LackingFactError
from muster.workers.store import documents
from muster.workers.store.files import FileRecord

#: What a document says of its own content, so that a digit of it that changes is found.
CHECK = "check"


class Facts(dict[str, Any]):
    """What a commit record says beside its files. Raises LackingFactError for what it does not say."""

    def __missing__(self, name: str) -> Any:
        raise LackingFactError(f"A commit record (DONE.json) is damaged: it lacks {name}.")


@dataclass(frozen=True)
class Done:
    """A commit record: which files hold the result, and what else is worth knowing about it."""

    files: dict[str, FileRecord]
    "By name relative to the folder of the record."
    facts: dict[str, Any]

    def to_json(self) -> bytes:
        files = {name: dataclasses.asdict(record) for name, record in self.files.items()}
        return vouched({**self.facts, "files": files})

    @classmethod
    def from_json(cls, data: bytes, form: documents.Form = documents.DONE) -> Done:
        """Raises ValueError if it has not the form, or is not what was written; older ones vouch for nothing."""
        facts = Facts(unvouched(parse_json(data, form)))
        files = facts.pop("files").items()
        return cls({name: FileRecord(record["size"], record["sha256"]) for name, record in files}, facts)


def vouched(document: Mapping[str, Any]) -> bytes:
    """A JSON object of the store that says itself what its content is: the first 16 hex digits of its SHA-256."""
    return to_json({**document, CHECK: hashlib.sha256(to_json(document)).hexdigest()[:16]})


def unvouched(document: dict[str, Any]) -> dict[str, Any]:
    """What `vouched` was given. Raises ValueError if it has changed since; older documents vouch for nothing."""
    found = {name: value for name, value in document.items() if name != CHECK}
    if CHECK in document and document[CHECK] != hashlib.sha256(to_json(found)).hexdigest()[:16]:
        raise ValueError("its content is not what it was when it was written")
    return found


def parse_json(data: bytes | str, form: documents.Form | None = None) -> Any:
    """JSON of the store, parsed; with a form, of that form. Raises ValueError for whatever is not, also where it is
    nested too deeply."""
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if form is not None:
        documents.check_form(found, form)
    return found


def to_json(value: Any) -> bytes:
    """The one spelling of JSON files in the store: indented, for people."""
    return (json.dumps(value, indent=1, default=str) + "\n").encode()
