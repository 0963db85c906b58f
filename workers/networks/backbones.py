"""The networks: an image batch in, D numbers for each image out.

`conv4` is ours, `bvlc_googlenet` the network of BIER's authors; every classifier of torchvision is available by its
name, one of timm as `timm/NAME` and one's own as `module:factory`, with its last linear layer replaced. Initial weights
come from the member's seed, or from a state dict whose content is in the key.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from muster.workers.errors import UsageError, said
from muster.workers.networks import own, timm_models
from muster.workers.networks.bvlc_googlenet import BvlcGoogLeNet
from muster.workers.networks.facts import TIMM, without_imagenet
from muster.workers.networks.own_code import own_network

State = Mapping[str, torch.Tensor]
#: Of each kind of mismatch.
SHOWN = 3
#: Tensors of a file may share their memory, and so be more than it; not without end.
MOST_SHARED, FEW_BYTES = 4, 1 << 20


class QuarterPool(nn.Module):
    """Mean over four quarters, [n, c, h, w] -> [n, c, 2, 2]: what nn.AdaptiveAvgPool2d(2) computes, whose
    gradient has no deterministic CUDA kernel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        if height == 1 or width == 1:  # a row or column that both halves share
            x = x.expand(-1, -1, max(2, height), max(2, width))
            height, width = x.shape[2:]
        return F.avg_pool2d(x, ((height + 1) // 2, (width + 1) // 2), (height // 2, width // 2))


class Conv4(nn.Sequential):
    """Four blocks of 3 x 3 convolution (64 filters), BatchNorm, ReLU and 2 x 2 max-pooling.

    The network of the few-shot literature, for small images; at 32 px its features are 64 x 2 x 2. Larger
    images are pooled to that size, so that one network serves all of them.
    """

    def __init__(self, outputs: int) -> None:
        blocks = [
            nn.Sequential(
                nn.Conv2d(3 if i == 0 else 64, 64, 3, padding=1, bias=False),
                nn.BatchNorm2d(64),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            )
            for i in range(4)
        ]
        super().__init__(*blocks, QuarterPool(), nn.Flatten(), nn.Linear(4 * 64, outputs))


def names() -> list[str]:
    """All backbones."""
    import torchvision.models

    return ["conv4", "bvlc_googlenet", *torchvision.models.list_models(module=torchvision.models)]


#: Outputs of the network that is tried: no network has so many by chance.
TRIED = 13


def refusal(backbone: str, side: int) -> str | None:
    """Why a network can't be trained on pictures of this side, in pixels, as a sentence without a full stop; None if it
    can. It is tried: few say so."""
    can_not = f"{backbone} can't take pictures of {side} px: "
    try:
        network = build(backbone, TRIED, 0, pretrained=True).eval()
    except UsageError as error:
        return str(error).rstrip(".")
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = network(torch.rand(2, 3, side, side))
    except (RuntimeError, ValueError, AssertionError) as error:
        return can_not + (str(error).splitlines()[0].rstrip(".!") if str(error) else type(error).__name__)
    except (Exception, SystemExit) as error:  # somebody else's code may raise anything
        return can_not + said(error)
    if not isinstance(found, torch.Tensor):
        return f"{backbone} gives a {type(found).__name__} for a batch of pictures, and no tensor"
    if tuple(found.shape) != (2, TRIED):
        return (
            f"{backbone} gives {list(found.shape)} for two pictures, where its last linear layer was given {TRIED} "
            f"outputs: the network has to end in that layer, and to give [2, {TRIED}]"
        )
    return (
        None
        if bool(found.isfinite().all())
        else f"{backbone} gives numbers that are not finite before training"
    )


def build(
    backbone: str, outputs: int, seed: int, initial: State | None = None, *, pretrained: bool = False
) -> nn.Module:
    """The network with `outputs` outputs, on the CPU: random weights from `seed`, then `initial` over them.

    The last linear layer is always new: its size is D. `pretrained` builds the network that training from
    initial weights gave, to load its trained weights into: some networks then convert their input.
    Raises UsageError if there is no such network, or, naming the tensors, if the initial weights are of
    another architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if backbone == "conv4":
            network: nn.Module = Conv4(outputs)
        elif backbone == "bvlc_googlenet":
            network = BvlcGoogLeNet(outputs)
        elif backbone.startswith(TIMM):
            network = timm_models.build(backbone, outputs)
        elif (mine := own_network(backbone)) is not None:
            network = _with_outputs(own.build(mine), backbone, outputs)
        else:
            network = _torchvision(backbone, outputs, pretrained or initial is not None)
    if initial is not None:
        _load(network, initial, backbone)
    return network


def _torchvision(backbone: str, outputs: int, pretrained: bool) -> nn.Module:
    import torchvision.models

    if backbone not in names():
        raise UsageError(f"There is no backbone {backbone!r}. There are: {', '.join(names())}.")
    options: dict[str, object] = {}
    if backbone in {"googlenet", "inception_v3"}:
        # Their ImageNet weights were trained on inputs in -1..1: the network converts. Their own random
        # weights take seconds to draw, and pretrained ones replace them.
        options = {"aux_logits": False, "init_weights": not pretrained, "transform_input": pretrained}
    network: nn.Module = torchvision.models.get_model(backbone, weights=None, **options)
    return _with_outputs(network, backbone, outputs)


def _with_outputs(network: nn.Module, backbone: str, outputs: int) -> nn.Module:
    """The network with a new last linear layer. Raises UsageError if it has none."""
    name, last = head(network, backbone)
    parent = network.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], nn.Linear(last.in_features, outputs))
    return network


def head(network: nn.Module, backbone: str) -> tuple[str, nn.Linear]:
    """The name and the module of the last linear layer. Raises UsageError if there is none."""
    if backbone.startswith(TIMM):
        return timm_models.head(network, backbone)
    linear = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        mine = own_network(backbone)
        cure = "end it in an nn.Linear, of any size" if mine else "take resnet18 or googlenet"
        raise UsageError(
            f"The backbone {mine.asked if mine else backbone} has no linear layer to replace; {cure}."
        )
    return linear[-1]


def without_head(network: nn.Module, backbone: str) -> int:
    """Takes the last linear layer out; how many features come into it. Raises UsageError if there is none."""
    name, last = head(network, backbone)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return last.in_features


def _load(network: nn.Module, initial: State, backbone: str) -> None:
    last = head(network, backbone)[0]
    # The heads are new or left out; a count of batches that nothing reads is absent from older files.
    left_out = (f"{last}.", "aux1.", "aux2.", "AuxLogits.", "loss1/", "loss2/")
    wanted, given = (
        {
            name: tensor
            for name, tensor in state.items()
            if not name.startswith(left_out) and not name.endswith("num_batches_tracked")
        }
        for state in (network.state_dict(), initial)
    )
    missing = [f"{name} is missing" for name in wanted if name not in given]
    foreign = [f"{name} is not in {backbone}" for name in given if name not in wanted]
    shapes = [
        f"{name} is {tuple(given[name].shape)}, must be {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if problems := [*shapes[:SHOWN], *missing[:SHOWN], *foreign[:SHOWN]]:
        left = len(shapes) + len(missing) + len(foreign) - len(problems)
        more = f"; and {left} more" if left else ""
        raise UsageError(f"--weights don't fit {backbone}: {'; '.join(problems)}{more}.")
    network.load_state_dict(dict(given), strict=False)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a safetensors file or a `torch.save` file of tensors alone; no pickled code runs.

    Raises UsageError if the file is missing or is neither.
    """
    if not path.is_file():
        what = "is a folder: name a file in it" if path.is_dir() else "there is no such file"
        raise UsageError(f"--weights {path}: {what}.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"--weights {path} can't be read: {error.strerror}.") from error
    try:
        state: Any
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            _refuse_packed(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whose text is of torch's inner life
        raise UsageError(
            f"--weights {path}: not a safetensors file or a state dict of tensors: it is cut short, of another kind, "
            "or holds other objects, which are never loaded."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise UsageError(f"--weights {path}: holds no state dict (a mapping of names to tensors).")
    size = path.stat().st_size
    if not all(map(_is_plain, state.values())) or _bytes(state) > MOST_SHARED * size + FEW_BYTES:
        raise UsageError(
            f"--weights {path}: its tensors are not plain ones that the file holds ({size:,} bytes); save the state "
            "dict anew, with torch.save or as safetensors."
        )
    # Copies: tensors of one file may share their memory, and safetensors would not write them.
    return {
        name.removeprefix("module."): tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }


def _refuse_packed(path: Path) -> None:
    """Raises ValueError for an archive that unpacks to more than it is: torch writes none, and would read it whole."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is packed")


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor's values are all there, side by side, and numbers that a network can be made of."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_complex() or tensor.is_nested)
    )


def _bytes(state: State) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def imagenet_state(backbone: str) -> dict[str, torch.Tensor]:
    """torchvision's ImageNet weights, downloaded or from its cache. Raises UsageError if that fails."""
    import torchvision.models

    if problem := without_imagenet(backbone):
        raise UsageError(problem)
    if backbone.startswith(TIMM):
        return timm_models.imagenet_state(backbone)
    try:
        found = torchvision.models.get_model_weights(backbone)["DEFAULT"].get_state_dict(
            progress=False, check_hash=True
        )
    except Exception as error:
        raise UsageError(
            f"The ImageNet weights of {backbone} can't be downloaded ({error}). "
            "Fetch them elsewhere and give --weights FILE, or train from --weights none."
        ) from error
    return {name: tensor.contiguous() for name, tensor in found.items()}


def state_digest(state: State) -> str:
    """The SHA-256 of names, types, shapes and values, whatever file they came in: 64 hex digits."""
    found = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        found.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
