"""Networks of one's own, `module:factory`: their code is imported here and nowhere else.

So whatever only reads a store loads none of it. The factory takes nothing and gives a network that ends in a linear
layer, which is replaced.
"""

from __future__ import annotations

import importlib
import sys

from torch import nn

from muster.workers.errors import UsageError, said
from muster.workers.networks.own_code import OwnNetwork, found


def build(network: OwnNetwork) -> nn.Module:
    """What the factory gives. Raises UsageError if the code is not here or is another one than the name's digest says,
    if it can't be imported, or if the factory gives no network."""
    place = found(network)
    _forget_other(network.top, str(place))
    sys.path.insert(0, str(place.parent))
    try:
        module = importlib.import_module(network.module)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"--backbone {network.asked}: {network.module} can't be imported: {said(error)}."
        ) from error
    finally:
        sys.path.remove(str(place.parent))
    factory = getattr(module, network.factory, None)
    if not callable(factory):
        kind = f"is a {type(factory).__name__} there" if factory is not None else "is not there"
        raise UsageError(
            f"--backbone {network.asked}: {network.module} has no function {network.factory}, it {kind}."
        )
    try:
        built = factory()
    except (Exception, SystemExit) as error:
        raise UsageError(f"--backbone {network.asked}: {network.factory}() fails: {said(error)}.") from error
    if not isinstance(built, nn.Module):
        kind = type(built).__name__
        raise UsageError(
            f"--backbone {network.asked}: {network.factory}() gives a {kind}, and no torch.nn.Module."
        )
    return built


def _forget_other(top: str, place: str) -> None:
    """Takes what is loaded under this name from elsewhere, or from other code, out of Python's memory."""
    for name in [one for one in sys.modules if one == top or one.startswith(f"{top}.")]:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if not origin.startswith(place):
            del sys.modules[name]
