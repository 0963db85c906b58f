"""Every mistake a user can make: a message that says what, where and what to do, exit code 2, nothing started."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from muster.orchestrator.methods.loading import load
from muster.workers.networks.backbones import build
from muster.workers.store.files import Files
from muster.workers.store.runs import RunFolder
from tests.cli import Muster, Ran


@pytest.fixture
def refused(muster_without_cluster: Muster, tmp_path: Path):
    """Runs a launch that must be refused, before a cluster is started or anything is written."""

    def run(*flags: object) -> Ran:
        store = tmp_path / "store"
        ran = muster_without_cluster("launch", "dreml", "--storage", store, *flags, code=2)
        assert ran.out == ""
        assert "Starting a local Ray head" not in ran.err
        assert not list(store.glob("*"))
        assert 1 <= len(ran.err.splitlines()) <= 12
        return ran

    return run


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--D", 1], ["D = 1", "at least 2"]),
        (["--D", 201], ["D = 201", "200 training classes", "2..200"]),
        (["--L", 0], ["L = 0", "at least 1"]),
        (["--set", "epochs=x"], ["recipe.epochs = 'x'", "a valid integer"]),
        (["--dataset", "glyph"], ["no data set 'glyph'", "glyphs, folder"]),
        (["--backbone", "resnet19"], ["no backbone 'resnet19'", "resnet18"]),
        (["--dataset", "folder"], ["--data-root"]),
        (["--dataset", "folder", "--data-root", "/no/such/place"], ["/no/such/place", "--data-root"]),
        (["--epochs", 0], ["epochs = 0", "at least 1"]),
        (["--set", "lrr=1"], ["lrr", "Did you mean lr?", "docs/settings.md"]),
        (["--set", "lr"], ["--set lr", "key=value"]),
        (["--set", "resize=square:256"], ["resize", "squash:N"]),
        (["--preset", "papre"], ["papre", "paper, code, glyphs"]),
        (["--val-classes", 199], ["--val-classes 199", "leaves 1"]),
        (["--train-classes", 900], ["--train-classes 900", "has 200"]),
        (["--image-size", 4], ["image_size = 4"]),
        (["--precision", "fp8"], ["precision", "fp8"]),
        (["--set", "epochs=1.5"], ["recipe.epochs = 1.5", "a valid integer"]),
        (["--set", "recipe.milestones=3"], ["recipe.milestones = 3", "a list"]),
        (["--gpus-per-member", 1.5], ["gpus_per_member = 1.5"]),
        (["--gpus-per-member", "inf"], ["gpus_per_member = inf"]),
        (["--eval-memory", "lots"], ["eval_memory", "512MB"]),
        (["--eval-memory", "infGB"], ["eval_memory = 'infGB'", "512MB"]),
        (["--eval-memory", "nanGB"], ["eval_memory = 'nanGB'", "512MB"]),
        (["--eval-memory", "1e308GB"], ["eval_memory = '1e308GB'", "512MB"]),
        (["--name", "a/b"], ["name = 'a/b'"]),
        (["--name", ".."], ["name = '..'", "begins with a letter or a digit"]),
        (["--name", "é"], ["name = 'é'", "A to Z"]),
        (["--name", "x" * 300], ["name = 'xxx", "at most 100"]),
        (["--dataset", "folder", "--set", "data.root=7"], ["data.root = 7", "must be text"]),
        (["--set", 'preset=["a"]'], ["preset = ['a']", "must be text"]),
        (["--set", 'backbone=["a"]'], ["ensemble.backbone = ['a']", "must be text"]),
        (["--set", "storage=7"], ["storage = 7", "must be text"]),
        (["--image-size", 0], ["image_size = 0", "8 to 9459"]),
        (["--image-size", 99999999], ["image_size = 99999999"]),
        (["--set", "resize=squash:99999999"], ["resize = 'squash:99999999'", "1 to 9459"]),
        (["--set", "view.crop=99999"], ["view.crop = 99999", "at most 9459"]),
        (["--L", 100000000], ["L = 100000000", "at most 1000"]),
        (["--train-classes", 1], ["--train-classes 1", "at least 2 classes"]),
        (["--set", "method=bier"], ["method = 'bier'", "this command's is dreml"]),
        (["--data-root", "/no/:bug:/[red]x", "--dataset", "folder"], ["/no/:bug:/[red]x"]),
        (["--weights", "/tmp"], ["--weights /tmp: is a folder"]),
        (["--dry-run", "--weights", "/no/such/file.pt"], ["/no/such/file.pt", "no such file"]),
        (
            ["--address", "nonsense", "--storage", "relative"],
            ["'nonsense' is not an address", "absolute path"],
        ),
        (["--dry-run", "--address", "nonsense", "--storage", "/abs"], ["'nonsense' is not an address"]),
        (["--dry-run", "--address", "http://127.0.0.1:9", "--storage", "/abs"], ["without --address"]),
        (["--set", "batch_norm=frozen"], ["ensemble.batch_norm: only bier has it", "statistics"]),
        (["--weights", "/no/such/file.pt"], ["/no/such/file.pt", "no such file"]),
        (["--config", "/no/such/run.toml"], ["/no/such/run.toml"]),
        (["--address", "ftp://x"], ["ftp://x"]),
        (["--address", "http://127.0.0.1:9", "--storage", "relative"], ["absolute path"]),
    ],
)
def test_a_wrong_flag_is_named_with_its_cure(refused, flags: list[object], said: list[str]) -> None:
    err = refused(*flags).err
    assert all(part in err for part in said), err


SEARCH = ["search", "--D", "4,8", "--val-classes", 20, "--max-L", 2]


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launch", "dreml", "--gpus-per-member", 1], "--gpus-per-member 1: the cluster has 0 GPUs"),
        (["launch", "dreml", "--gpus-per-member", 0.25], "--gpus-per-member 0.25: the cluster has 0 GPUs"),
        (["launch", "dreml", "--set", "threads=99999"], "ensemble.threads = 99999: the cluster has"),
        (["launch", "dreml", "--weights", "imagenet"], "conv4 has no ImageNet weights"),
        (["launch", "bier", "--weights", "imagenet", "--backbone", "bvlc_googlenet", "--image-size", 256],
         "bvlc_googlenet has no ImageNet weights"),
        (["launch", "bier", "--P", 128, "--K", 8, "--ranks", 1024], "--ranks 1024: the cluster has"),
        (["launch", "baseline", "--loss", "triplet", "--weights", "imagenet"], "conv4 has no ImageNet weights"),
        ([*SEARCH, "--gpus-per-member", 1], "--gpus-per-member 1: the cluster has 0 GPUs"),
        ([*SEARCH, "--weights", "imagenet"], "conv4 has no ImageNet weights"),
        (["reproduce", "dreml-table1", "--datasets", "glyphs", "--gpus-per-member", 1],
         "--gpus-per-member 1: the cluster has 0 GPUs"),
    ],
)  # fmt: skip
def test_a_dry_run_refuses_what_its_launch_would_before_a_head_is_started(
    muster_without_cluster: Muster, tmp_path: Path, words: list[object], said: str, dry_run: list[str]
) -> None:
    if torch.cuda.is_available() and "GPUs" in said:
        words = [9 if word in (1, 0.25) else word for word in words]
        said = "--gpus-per-member 9: the cluster has"
    ran = muster_without_cluster(*words, "--storage", tmp_path, *dry_run, code=2)
    assert said in ran.err
    assert "Starting" not in ran.err


def test_all_mistakes_come_in_one_message(refused, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("[ensemble]\nD = 1\nL = -3\n[recipe]\nlearning_rate = 3\n[nonsense]\nx = 1\n")
    err = refused("--config", config, "--backbone", "resnet19", "--set", "momentum=2").err
    for part in ("D = 1", "L = -3", "learning_rate", "nonsense", "resnet19", "momentum = 2"):
        assert part in err
    assert "There are: epochs, batch_size, lr" in err


def test_ranges_are_told_beside_a_key_that_is_required_and_of_the_wrong_type(refused) -> None:
    flags = ["epochs=1.5", "lr=nan", "batch_size=0", "view.crop=x"]
    err = refused(*(word for flag in flags for word in ("--set", flag))).err
    for part in ("recipe.epochs = 1.5", "recipe.lr = nan", "recipe.batch_size = 0", "view.crop = 'x'"):
        assert part in err


@pytest.mark.parametrize("text", ["recipe = 3", "[[recipe]]\nepochs = 3"])
def test_a_section_that_is_none_is_named(refused, tmp_path: Path, text: str) -> None:
    config = tmp_path / "run.toml"
    config.write_text(text)
    err = refused("--config", config).err
    assert f"{config}: recipe is a section: write [recipe]" in err
    assert "Did you mean" not in err


def test_json_is_answered_with_json_also_when_refused(muster_without_cluster: Muster, tmp_path: Path) -> None:
    ran = muster_without_cluster("launch", "dreml", "--D", 1, "--storage", tmp_path, "--json", code=2)
    assert ran.document["state"] == "failed"
    assert "D = 1" in ran.document["message"]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["launch", "dreml", "--D", "abc"], "--D"), (["runs", "--nope"], "--nope"), (["status"], "argument"),
     (["lanch"], "Did you mean 'launch'?"),
     (["launch", "drml"], "method = 'drml': there are dreml, bier, baseline, distill. Did you mean dreml?")],
)  # fmt: skip
def test_json_is_answered_with_json_also_when_the_parser_refuses(
    muster_without_cluster: Muster, words: list[str], said: str
) -> None:
    ran = muster_without_cluster(*words, "--json", code=2)
    assert (ran.document["state"], ran.document["exit_code"]) == ("failed", 2)
    assert said in ran.document["message"]
    assert said in ran.err


def test_a_file_that_means_another_method_is_refused(refused, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('method = "bier"\n')
    assert "method = 'bier': this command's is dreml" in refused("--config", config).err


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize("storage", ["/etc/passwd", "/proc/x"])
def test_a_place_that_cant_be_a_store_is_refused_also_by_a_dry_run(
    muster_without_cluster: Muster, storage: str, dry_run: list[str]
) -> None:
    ran = muster_without_cluster("launch", "dreml", "--storage", storage, *dry_run, code=2)
    assert f"Can't write {storage}" in ran.err
    assert "--storage" in ran.err


def test_a_dry_run_plans_with_the_initial_weights_of_a_file(
    muster_without_cluster: Muster, shapes: Path, tmp_path: Path
) -> None:
    store, file = tmp_path / "store", tmp_path / "conv4.pt"
    torch.save(build("conv4", 10, 0).state_dict(), file)
    where = ["--storage", store, "--image-size", 32]
    muster_without_cluster("data", "pack", "folder", "--data-root", shapes, *where)
    flags = ["--dataset", "folder", "--data-root", shapes, "--D", 4, "--L", 2, *where, "--dry-run", "--json"]
    launch = ["launch", "dreml", *flags, "--backbone", "conv4"]
    plain, ours = (
        muster_without_cluster(*launch, "--weights", weights).document for weights in ("none", file)
    )
    assert (plain["to_train"], ours["to_train"]) == (2, 2)
    members = [
        [row["value"] for row in found["rows"] if row["what"].startswith("member")] for found in (plain, ours)
    ]
    assert not set(members[0]) & set(members[1])  # other weights, other keys
    unknown = muster_without_cluster("launch", "dreml", *flags, "--weights", "imagenet").document
    assert "until ImageNet's weights are fetched" in unknown["sentence"]


def test_a_toml_file_that_is_none_is_named_with_the_line(refused, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("[ensemble\nD = 3\n")
    assert "line 1" in refused("--config", config).err


def test_weights_of_another_architecture_name_the_tensors(refused, tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    torch.save(build("conv4", 10, 0).state_dict(), file)
    err = refused("--backbone", "resnet18", "--weights", file).err
    assert "conv1.weight is missing" in err
    assert "0.0.weight is not in resnet18" in err


def test_weights_that_would_run_code_are_refused(refused, tmp_path: Path) -> None:
    file = tmp_path / "evil.pt"
    torch.save({"state_dict": Path}, file)
    assert "not a safetensors file or a state dict" in refused("--weights", file).err


def test_a_file_of_weights_that_is_cut_short_is_told_in_a_sentence(refused, tmp_path: Path) -> None:
    whole, file = tmp_path / "whole.pt", tmp_path / "cut.pt"
    torch.save(build("conv4", 10, 0).state_dict(), whole)
    file.write_bytes(whole.read_bytes()[:5000])
    err = refused("--weights", file).err
    assert "cut short" in err
    assert "miniz" not in err


def test_a_test_split_without_pairs_is_refused(refused, tmp_path: Path) -> None:
    for number in range(6):
        folder = tmp_path / "images" / f"{number}"
        folder.mkdir(parents=True)
        for image in range(3 if number < 3 else 1):
            Image.new("RGB", (32, 32), (40 * number, 80, 20 * image)).save(folder / f"{image}.png")
    flags = [
        "--dataset",
        "folder",
        "--data-root",
        tmp_path / "images",
        "--image-size",
        32,
        "--backbone",
        "conv4",
    ]
    err = refused(*flags, "--D", 2).err
    assert "no class has two images" in err


def test_a_store_that_cant_be_written_is_named(muster_without_cluster: Muster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ran = muster_without_cluster("launch", "dreml", "--storage", tmp_path / "file" / "store", code=2)
    assert str(tmp_path / "file" / "store") in ran.err
    assert "--storage" in ran.err


def test_an_address_that_nobody_answers_is_told_soon(muster_without_cluster: Muster, tmp_path: Path) -> None:
    ran = muster_without_cluster(
        "launch", "dreml", "--storage", tmp_path, "--address", "http://127.0.0.1:9", code=2, timeout=40
    )
    assert "127.0.0.1:9" in ran.err


def test_a_truncated_image_stops_the_run_before_training(
    muster: Muster, small: list[object], shapes: Path, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    shutil.copytree(shapes, root)
    broken = root / "class 03" / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    (root / "class 20" / "5.jpg").write_text("no image")
    flags = [root if flag == shapes else flag for flag in small]
    ran = muster(*flags, "--L", 1, "--storage", tmp_path / "store", "--name", "bad", code=2)
    assert "class 03/2.jpg: its data end before the end marker" in ran.err
    assert "class 20/5.jpg: it is no picture" in ran.err  # both splits in one message
    assert "--skip-bad-images" in ran.err
    assert not (tmp_path / "store/models").exists()
    assert not list((tmp_path / "store").glob("packs/*/DONE.json"))
    ran = muster(
        *flags, "--L", 1, "--storage", tmp_path / "store", "--name", "bad", "--skip-bad-images", "--json"
    )
    assert "class 03/2.jpg" in ran.err
    assert ran.document["state"] == "done"


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A store of two runs: `good`, and `cut`, whose run.json is to be written."""
    for name in ("good", "cut"):
        RunFolder(Files(str(tmp_path)), name).write(
            "run.json", load(None, {"method": "dreml"}, []).document()
        )
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [["status", "cut"], ["logs", "cut"], ["resume", "cut"], ["gather", "cut"], ["evaluate", "cut"],
     ["correlation", "cut"], ["launch", "dreml", "--name", "cut"]],
)  # fmt: skip
def test_a_damaged_run_is_named_with_the_cure(
    muster_without_cluster: Muster, damaged: Path, command: list[str]
) -> None:
    (damaged / "runs/cut/run.json").write_text('{"method": ')
    ran = muster_without_cluster(*command, "--storage", damaged, "--json", code=2)
    assert "runs/cut/run.json is damaged" in ran.document["message"]
    assert "launch again" in ran.err
    assert "Starting a local Ray head" not in ran.err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"method": "dreml"}', '{"ensemble": {"L": "abc"}}'])
def test_one_damaged_run_hides_no_other(muster_without_cluster: Muster, damaged: Path, content: str) -> None:
    (damaged / "runs/cut/run.json").write_text(content)
    rows = muster_without_cluster("runs", "--storage", damaged, "--json").document
    assert [(row["run"], row["state"]) for row in rows] == [("cut", "damaged"), ("good", "new")]


def test_a_request_that_was_changed_by_hand_is_named_with_its_file(
    muster_without_cluster: Muster, damaged: Path
) -> None:
    file = damaged / "runs/cut/run.json"
    request = json.loads(file.read_text())
    request["ensemble"]["D"] = 1
    file.write_text(json.dumps(request))
    err = muster_without_cluster("resume", "cut", "--storage", damaged, code=2).err
    assert f"{file} is damaged: its content is not what it was when it was written." in err
    del request["check"]  # an older release's vouches for nothing
    file.write_text(json.dumps(request))
    assert (
        f"{file}: ensemble.D = 1:"
        in muster_without_cluster("resume", "cut", "--storage", damaged, code=2).err
    )
    file.write_text('{"kind": "reproduce"}')
    assert (
        f"{file}: target is missing."
        in muster_without_cluster("resume", "cut", "--storage", damaged, code=2).err
    )


def test_a_damaged_plan_is_named_and_can_be_deleted(muster_without_cluster: Muster, damaged: Path) -> None:
    (damaged / "runs/cut/plan.json").write_text("[]")
    err = muster_without_cluster("status", "cut", "--storage", damaged, code=2).err
    assert "runs/cut/plan.json is damaged" in err
    assert "Delete it: muster resume cut" in err


def test_a_resumed_run_is_asked_for_what_it_can_be(muster_without_cluster: Muster, damaged: Path) -> None:
    flags = ["--parallel", -1, "--gpus-per-member", "nan", "--storage", damaged]
    err = muster_without_cluster("resume", "good", *flags, code=2).err
    assert "resources.parallel = -1" in err
    assert "resources.gpus_per_member = nan" in err


@pytest.mark.parametrize("command", ["status", "logs", "resume", "stop", "gather", "evaluate", "correlation"])
def test_a_name_that_no_run_can_have_is_refused_before_anything_starts(
    muster_without_cluster: Muster, damaged: Path, command: str
) -> None:
    where = [] if command == "stop" else ["--storage", damaged]
    ran = muster_without_cluster(command, "good/../good", *where, code=2)
    assert "name = 'good/../good'" in ran.err
    assert "Starting a local Ray head" not in ran.err


@pytest.mark.parametrize("command", ["status", "logs", "resume", "gather", "evaluate"])
def test_a_run_that_is_not_there_is_answered_with_those_that_are(
    muster_without_cluster: Muster, tmp_path: Path, command: str
) -> None:
    ran = muster_without_cluster(command, "nobody", "--storage", tmp_path, code=2)
    assert "There is no run nobody" in ran.err


@pytest.mark.parametrize("command", ["launch", "runs"])
def test_a_uri_with_a_slash_too_few_is_no_folder(muster_without_cluster: Muster, command: str) -> None:
    words = ["launch", "dreml", "--dry-run"] if command == "launch" else ["runs"]
    ran = muster_without_cluster(*words, "--storage", "s3:/bucket/store", code=2)
    assert "as s3://bucket/store" in ran.err


def test_a_list_of_runs_says_where_there_is_no_store(muster_without_cluster: Muster, tmp_path: Path) -> None:
    assert "there is no folder" in muster_without_cluster("runs", "--storage", tmp_path / "none").out
    (tmp_path / "file").touch()
    assert "is a file" in muster_without_cluster("runs", "--storage", tmp_path / "file", code=2).err


def test_images_that_lie_in_no_class_folder_are_told(muster_without_cluster: Muster, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").touch()
    where = ["--dataset", "folder", "--data-root", tmp_path, "--storage", tmp_path / "s"]
    err = muster_without_cluster("launch", "dreml", *where, "--dry-run", code=2).err
    assert "0 class folder(s) with pictures" in err
    assert "3 pictures in no class folder" in err


def test_stopping_without_a_cluster_says_so(muster_without_cluster: Muster, tmp_path: Path) -> None:
    env = {**muster_without_cluster.env, "MUSTER_STATE_DIR": str(tmp_path / "none")}
    assert "No local Ray head runs" in Muster(env)("stop", "nobody", code=2).err
