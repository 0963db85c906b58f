"""A member that hangs raises nothing. It is known by the time since its last step, and by nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.fleet.watchdog import HANG_SECONDS, HANG_STEPS, StepWatch
from muster.workers.spec import ModelSpec
from muster.workers.train.loop import LOOK_STEPS
from tests.orchestrator.fleet.stubs import Attempt, PlayedFleet, Scene, member, played
from tests.workers.methods.specs import every_method

STEP = {"state": "training", "epoch": 0, "step": 3, "steps": 9, "loss": 1.0}
