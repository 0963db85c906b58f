"""Commit records, and the JSON of the store: what is written last, and vouches for its own content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from muster.workers.errors import LackingFactError
from muster.workers.store import documents
from muster.workers.store.files import FileRecord

#: What a commit record says of its own content, so that a digit of it that changes is found.
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
        found = {**self.facts, "files": files}
        return to_json({**found, CHECK: _check(found)})

    @classmethod
    def from_json(cls, data: bytes, form: documents.Form = documents.DONE) -> Done:
        """Raises ValueError if it has not the form, or is not what was written; older ones vouch for nothing."""
        facts = Facts(parse_json(data, form))
        promised = facts.pop(CHECK, None)
        if promised is not None and promised != _check(facts):
            raise ValueError("its content is not what it was when it was written")
        files = facts.pop("files").items()
        return cls({name: FileRecord(record["size"], record["sha256"]) for name, record in files}, facts)


def _check(facts: dict[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 of a record's content."""
    return hashlib.sha256(to_json(facts)).hexdigest()[:16]


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
