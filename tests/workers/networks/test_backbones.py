"""The networks, and the files of initial weights that fit them or don't."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file

from muster.workers.errors import UsageError
from muster.workers.networks import backbones
from muster.workers.networks.backbones import QuarterPool, build, names, read_state, state_digest
from muster.workers.networks.bvlc_googlenet import windowed_norm
from tests.workers.samples import same_tensors


def conv4_state() -> dict[str, torch.Tensor]:
    return dict(build("conv4", 5, seed=1).state_dict())


@pytest.mark.parametrize("side", [16, 32, 84])
def test_conv4_takes_images_of_any_size(side: int) -> None:
    network = build("conv4", 7, seed=0).eval()
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 7)
    assert network[-1].in_features == 256


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 13])
def test_quarters_are_pooled_as_adaptive_pooling_does(side: int) -> None:
    images = torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(side))
    torch.testing.assert_close(QuarterPool()(images), torch.nn.AdaptiveAvgPool2d(2)(images))


@pytest.mark.parametrize("backbone", ["resnet18", "googlenet", "shufflenet_v2_x0_5", "conv4"])
def test_the_head_is_replaced_by_one_with_d_outputs(backbone: str) -> None:
    network = build(backbone, 12, seed=0).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 12)
    assert backbones.head(network, backbone)[1].out_features == 12


def test_initial_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = build("conv4", 5, seed=3).state_dict()
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)  # the caller's own generator is left alone
    assert same_tensors(build("conv4", 5, seed=3).state_dict(), first)
    assert not same_tensors(build("conv4", 5, seed=4).state_dict(), first)


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=r"no backbone 'resnet19'.*conv4.*resnet18"):
        build("resnet19", 5, seed=0)
    assert {"conv4", "resnet18", "resnet50", "googlenet"} <= set(names())


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(UsageError, match="no linear layer"):
        build("squeezenet1_1", 5, seed=0)


def test_weights_of_another_architecture_are_refused_naming_the_tensors() -> None:
    state = conv4_state()
    del state["1.0.weight"]
    state["2.0.weight"] = torch.zeros(64, 3, 3, 3)
    state["extra.bias"] = torch.zeros(1)
    with pytest.raises(UsageError) as caught:
        build("conv4", 5, 0, state)
    message = str(caught.value)
    assert "1.0.weight is missing" in message
    assert "extra.bias is not in conv4" in message
    assert "2.0.weight is (64, 3, 3, 3), must be (64, 64, 3, 3)" in message


def test_a_long_list_of_misfits_is_cut() -> None:
    with pytest.raises(UsageError, match=r"conv1\.weight is missing; .*; and \d+ more\.$"):
        build("resnet18", 5, 0, conv4_state())


def test_pretrained_weights_replace_all_but_the_head() -> None:
    state = conv4_state()
    network = build("conv4", 9, seed=2, initial=state).state_dict()
    fresh = build("conv4", 9, seed=2).state_dict()
    assert torch.equal(network["3.0.weight"], state["3.0.weight"])
    assert torch.equal(network["6.weight"], fresh["6.weight"])


def test_older_files_without_batch_counts_and_files_with_auxiliary_heads_fit() -> None:
    state = dict(build("googlenet", 4, seed=0, pretrained=True).state_dict())
    older = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    older |= {"aux1.fc1.weight": torch.zeros(3), "aux2.conv.bn.bias": torch.zeros(3)}
    network = build("googlenet", 4, seed=1, initial=older)
    assert torch.equal(network.state_dict()["conv1.conv.weight"], state["conv1.conv.weight"])


def test_a_network_that_converts_pretrained_input_does_so_after_training_too() -> None:
    """googlenet's ImageNet weights expect other input statistics than the recipe's: the network converts."""
    state = dict(build("googlenet", 4, seed=0, pretrained=True).state_dict())
    trained = build("googlenet", 4, seed=1, initial=state).eval()
    loaded = build("googlenet", 4, seed=2, pretrained=True).eval()
    loaded.load_state_dict(trained.state_dict())
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(images), trained(images))
    loaded.transform_input = False
    assert not torch.equal(loaded(images), trained(images))
    assert not build("googlenet", 4, seed=0).transform_input


def as_safetensors(state: dict[str, torch.Tensor], path: Path) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def as_torch(state: Any, path: Path) -> Path:
    torch.save(state, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


@pytest.mark.parametrize("write", [as_safetensors, as_torch])
def test_a_state_dict_reads_back_as_it_was(
    write: Callable[[dict[str, torch.Tensor], Path], Path], tmp_path: Path
) -> None:
    state = conv4_state() | {"half": torch.ones(3, dtype=torch.bfloat16), "flag": torch.tensor(True)}
    read = read_state(write(state, tmp_path / "weights"))
    assert same_tensors(read, state)
    assert state_digest(read) == state_digest(state)


def test_the_digest_is_of_the_content_whatever_the_format_and_wrapping(tmp_path: Path) -> None:
    state = conv4_state()
    wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}
    strided = {name: tensor.clone(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
               for name, tensor in reversed(state.items())}  # fmt: skip
    paths = [
        as_safetensors(state, tmp_path / "a"),
        as_torch(state, tmp_path / "b"),
        as_torch(wrapped, tmp_path / "c"),
        as_torch(strided, tmp_path / "d"),
    ]
    assert {state_digest(read_state(path)) for path in paths} == {state_digest(state)}


@pytest.mark.parametrize("change", ["value", "name", "type", "shape", "missing"])
def test_any_change_of_the_content_changes_the_digest(change: str) -> None:
    state, other = conv4_state(), conv4_state()
    tensor = other.pop("6.bias")
    if change == "value":
        other["6.bias"] = tensor.index_fill(0, torch.tensor([2]), 0.25)
    elif change == "name":
        other["7.bias"] = tensor
    elif change == "type":
        other["6.bias"] = tensor.view(torch.int32)
    elif change == "shape":
        other["6.bias"] = tensor.reshape(1, 5)
    assert state_digest(other) != state_digest(state)


def test_tensors_that_share_memory_can_be_written_again(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    state = read_state(as_torch({"a": shared, "b": shared, "c": shared[:3]}, tmp_path / "shared"))
    assert read_state(as_safetensors(state, tmp_path / "again"))["c"].tolist() == [0, 1, 2]


class Evil:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.mark),))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    paths = [as_torch({"weight": torch.zeros(1), "evil": Evil(str(mark))}, tmp_path / "evil")]
    paths.append(tmp_path / "plain.pkl")
    paths[1].write_bytes(pickle.dumps(Evil(str(mark)), protocol=2))
    for path in paths:
        with pytest.raises(UsageError, match=re.escape(str(path))):
            read_state(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(2), {"epoch": 3}, {0: torch.zeros(1)}, 7])
def test_a_file_that_holds_no_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no state dict"):
        read_state(as_torch(content, tmp_path / "other"))


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors", "empty.pth", "empty.safetensors", "text.pth"])
def test_a_damaged_file_is_refused_by_its_path(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    whole = as_torch(conv4_state(), tmp_path / "whole").read_bytes()
    path.write_bytes({"cut": whole[:2000], "empty": b"", "text": b"hello"}[path.stem])
    with pytest.raises(UsageError, match=f"--weights {re.escape(str(path))}"):
        read_state(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_state(tmp_path / "none.pth")


def test_conv4_has_no_imagenet_weights() -> None:
    with pytest.raises(UsageError, match="conv4 has no ImageNet weights"):
        backbones.imagenet_state("conv4")


def test_the_windowed_norm_is_torchs() -> None:
    """With its gradient; on a GPU it stands in where kernels are to be deterministic."""
    x = torch.randn(3, 11, 4, 5, dtype=torch.float64, requires_grad=True)
    there = torch.nn.functional.local_response_norm(x, 5, alpha=0.3, beta=0.75, k=1.0)
    here = windowed_norm(x, 5, 0.3, 0.75, 1.0)
    torch.testing.assert_close(here, there)
    weights = torch.randn_like(x)
    grads = [torch.autograd.grad((one * weights).sum(), x)[0] for one in (here, there)]
    torch.testing.assert_close(*grads)


def test_a_download_that_was_cut_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the file has the beginning of its digest."""
    state = {"weight": torch.arange(6.0)}
    whole = as_torch(state, tmp_path / "whole").read_bytes()
    bodies = [whole[: len(whole) // 2], whole]

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bodies.pop(0))

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        name = f"tiny-{hashlib.sha256(whole).hexdigest()[:8]}.pth"
        where = torchvision.models.get_model_weights("resnet18")["DEFAULT"].value
        monkeypatch.setattr(where, "url", f"http://127.0.0.1:{server.server_port}/{name}")
        with pytest.raises(UsageError, match="ImageNet weights of resnet18 can't be downloaded"):
            backbones.imagenet_state("resnet18")
        assert same_tensors(backbones.imagenet_state("resnet18"), state)
        server.shutdown()
