"""What a report's pictures are called."""

from __future__ import annotations

from muster.orchestrator.settings.request import LaunchRequest


def heat_title(request: LaunchRequest) -> str:
    """What a heat map shows, in a line."""
    return f"Correlation of dimensions, {method_name(request)} on {request.data.dataset}"


def method_name(request: LaunchRequest) -> str:
    """BIER, A-BIER, or the baseline that the settings make of it."""
    bier = request.bier
    if bier is None:
        return request.method.upper()
    name = {"none": "BIER", "adversarial": "A-BIER", "activation": "BIER, activation loss"}[bier.auxiliary]
    if bier.boost:
        return name
    return "one embedding" if len(bier.sizes) == 1 else "baseline, all weights 1"
