"""What the ranks of a team say to each other goes where their group can carry it. The GPU is played by torch's fake
tensors."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode

from muster.workers.train.team import Team


@pytest.mark.parametrize(("backend", "carries"), [("nccl", "cuda"), ("gloo", "cpu")])
def test_a_mean_is_formed_where_the_group_can(
    backend: str, carries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(dist, "get_backend", lambda: backend)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: seen.append(tensor.device.type))
    with FakeTensorMode(allow_non_fake_inputs=True):
        mean = Team(size=2).mean(torch.empty((), device="cpu"))
    assert seen == [carries]
    assert mean.device.type == "cpu"


def test_alone_it_is_the_value_itself() -> None:
    value = torch.tensor(3.0)
    assert Team().mean(value) is value
