"""Settings as they are hashed: written apart from their classes, so that a release renames nothing.

A class may grow. What is hashed are the fields that it had when its keys began, for ever under these names, and of
the later ones those that differ from what was done before they existed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

#: The fields of each class when its keys began. Nothing here is ever changed, whatever a class calls its fields.
FIRST: Mapping[str, str] = {
    "Recipe": "epochs batch_size lr momentum nesterov weight_decay schedule step_epochs milestones gamma warmup resize "
    "crop pad flip rotate mean std class_cap select normalize_logits",
    "InputRecipe": "resize crop pad flip rotate mean std",
    "MemberSpec": "method train_digest classes backbone weights D index seed partition recipe precision threads "
    "deterministic batch_norm training_version",
    "BierSpec": "method train_digest classes backbone weights seed recipe bier precision threads deterministic "
    "batch_norm training_version",
    "BierSettings": "sizes boost variant shrinkage auxiliary lambda_div lambda_weight weight_norm_axis "
    "auxiliary_to_backbone labels images steps lr learner_lr regressor_lr weight_decay anneal_every anneal_factor",
    "BaselineSpec": "method train_digest classes backbone weights seed recipe baseline precision threads deterministic "
    "batch_norm training_version",
    "BaselineSettings": "loss dim labels images epochs lr embedding_lr proxy_lr weight_decay anneal_epochs "
    "anneal_factor margin embedding_l2 scale",
    "TestView": "resize crop mean std",
}


#: For a field that has no part in what is hashed.
APART: Mapping[str, Any] = {"apart": True}


def added(default: Any, *, absent: Any) -> Any:
    """A field that came after its class's keys began: `absent` is what was done before, and is never changed. At that
    value it is left out of every digest, so that no key of an older store is another one now."""
    return dataclasses.field(default=default, metadata={"absent": absent})


def form(settings: Any, first: Mapping[str, str] = FIRST) -> Any:
    """A dataclass of settings as plain values, to be hashed; anything else as it is.

    Raises TypeError for a class that has no form, and for a field that is neither in it nor says what was done before
    it existed.
    """
    if isinstance(settings, tuple | list):
        return type(settings)(form(item, first) for item in settings)
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return settings
    kind = type(settings).__name__
    if kind not in first:
        raise TypeError(f"{kind} has no form to be hashed in")
    found = {name: form(getattr(settings, name), first) for name in first[kind].split()}
    for field in dataclasses.fields(settings):
        if field.name in found or "apart" in field.metadata:
            continue
        if "absent" not in field.metadata:
            raise TypeError(
                f"{kind}.{field.name} came later and does not say what was done before: see `added`"
            )
        value = getattr(settings, field.name)
        if value != field.metadata["absent"]:
            found[field.name] = form(value, first)
    return found
