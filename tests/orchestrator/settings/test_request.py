"""What makes two requests the same one: every field that changes a result, and none that does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from muster.orchestrator.methods.loading import load, parse_request
from muster.orchestrator.settings import compat
from muster.orchestrator.settings.checks import whole_path
from muster.orchestrator.settings.request import DataRequest, EnsembleSettings, LaunchRequest, open_data
from muster.orchestrator.settings.resources import Resources, parse_bytes
from muster.workers.errors import UsageError
from muster.workers.score.combine import Combination
from muster.workers.spec import TestView

REQUEST = load(None, {"data.dataset": "glyphs", "ensemble.backbone": "conv4"}, [])
CHANGES: dict[str, dict[str, Any]] = {
    "data": {
        "dataset": "folder", "root": "/images", "train_classes": 7, "val_classes": 3, "skip_bad_images": True,
        "allow_counts": True, "test_list": "large", "vehicleid_protocol": "reid",
    },
    "ensemble": {
        "D": 3, "L": 2, "seed": 1, "backbone": "resnet18", "weights": "imagenet", "precision": "fp32",
        "threads": 2, "deterministic": True, "batch_norm": "frozen",
    },
    "view": {"resize": "squash:40", "crop": 24, "mean": (0.1, 0.2, 0.3), "std": (0.3, 0.2, 0.1)},
    "resources": {
        "parallel": 1, "gpus_per_member": 0.5, "ranks": 2, "checkpoint_steps": 7, "input": "host",
        "eval_memory": "2GB", "nmi": False, "floors": False, "embedding_type": "float16",
    },
}  # fmt: skip
KINDS = {"data": DataRequest, "ensemble": EnsembleSettings, "view": TestView, "resources": Resources}
FIELDS = [(section, name) for section, changes in CHANGES.items() for name in changes]


#: Of one's own folder: what changes its pictures or its splits, and what only says how they are read.
OWN = {
    "layout": "classes", "allow_shared_classes": True, "drop_duplicates": True, "background": "black",
    "exif_transpose": True, "split_by": "random", "split_seed": 4, "split_file": "/others.csv", "table": "/items.csv",
    "columns": ("label=class",),
}  # fmt: skip
#: What else must be so where one of these is asked for.
BESIDE: dict[str, dict[str, Any]] = {
    "split_seed": {"split_by": "random"}, "split_file": {"split_by": "file", "split_file": "/classes.csv"},
    "table": {"dataset": "table"}, "columns": {"dataset": "table"},
}  # fmt: skip
APART = {"max_pixels": 5, "reading": 1}


def changed(section: str, name: str) -> LaunchRequest:
    part = dataclasses.replace(getattr(REQUEST, section), **{name: CHANGES[section][name]})
    return dataclasses.replace(REQUEST, **{section: part})


def test_every_field_is_tried() -> None:
    for section, kind in KINDS.items():
        # Without the protocol that has them, and what is tried on a folder of one's own.
        rest = {"repeats", *OWN, *APART} if section == "data" else set()
        assert CHANGES[section].keys() | rest == {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_what_changes_a_result_makes_another_run(section: str, name: str) -> None:
    other = changed(section, name)
    assert (other.identity() == REQUEST.identity()) == (section == "resources")
    same = other.run.rpartition("-")[2] == REQUEST.run.rpartition("-")[2]
    assert same == (section == "resources")


@pytest.mark.parametrize("name", [*OWN, *APART])
def test_how_a_folder_is_read_makes_another_run_where_other_pictures_are_meant(name: str) -> None:
    """The rule's number is none of that: a run goes on by the one that it began with, and keeps its name."""
    beside = {"dataset": "folder", "root": "/images", **BESIDE.get(name, {})}
    data = dataclasses.replace(REQUEST.data, **beside)
    other = dataclasses.replace(data, **{name: {**OWN, **APART}[name]})
    one, two = (dataclasses.replace(REQUEST, data=which) for which in (data, other))
    assert (one.run == two.run) == (name in APART)


def test_the_other_parts_of_a_request_are_in_its_identity_too() -> None:
    found = {
        REQUEST.run,
        dataclasses.replace(REQUEST, preset="other").run,
        load(None, {"data.dataset": "glyphs", "ensemble.backbone": "conv4"}, ["epochs=1"]).run,
        dataclasses.replace(
            REQUEST,
            data=dataclasses.replace(REQUEST.data, vehicleid_protocol="reid", repeats=7),
        ).run,
        dataclasses.replace(REQUEST, data=dataclasses.replace(REQUEST.data, vehicleid_protocol="reid")).run,
    }
    assert len(found) == 5


def test_a_name_and_a_store_change_nothing() -> None:
    assert dataclasses.replace(REQUEST, storage="/other").run == REQUEST.run
    assert dataclasses.replace(REQUEST, name="mine").run == "mine"
    assert dataclasses.replace(REQUEST, name="mine").identity() == REQUEST.identity()


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({}, "dreml-glyphs-D100-L8-4f2dc8"),
        ({"ensemble.D": 3, "view.crop": 24}, "dreml-glyphs-D3-L8-0c73cb"),
        ({"method": "bier"}, "bier-glyphs-512d-4d3eff"),
        ({"method": "baseline", "baseline.loss": "npairs"}, "npairs-glyphs-64d-faf79a"),
        ({"method": "distill", "teacher": "first"}, "distill-glyphs-512d-126baa"),
    ],
)
def test_names_of_runs_stay(flags: dict[str, Any], name: str) -> None:
    """They are how the same request finds its run again, in any release."""
    assert load(None, {"data.dataset": "glyphs", **flags}, []).run == name


@pytest.mark.parametrize("method", ["dreml", "bier", "baseline", "distill"])
def test_what_is_kept_of_a_request_reads_as_the_request(method: str) -> None:
    own = {"distill": {"teacher": "first"}, "baseline": {"baseline.loss": "triplet"}}.get(method, {})
    request = load(None, {"method": method, "name": "mine", "view.crop": 24, **own}, [])
    saved = request.document()
    assert saved["format"] == compat.FORMAT == 2
    assert "settings" not in saved
    assert parse_request(saved, "here") == request


@pytest.mark.parametrize("number", [3, 100, "2", None, 2.0])
def test_a_format_that_is_not_known_is_refused_with_the_release_that_wrote_it(number: Any) -> None:
    with pytest.raises(
        compat.NewerRunError, match=r"here has format .* up to format 2\. Get muster 9\.9, which"
    ):
        compat.current({"format": number, "muster": "9.9"}, "here")
    with pytest.raises(compat.NewerRunError, match="Get muster of a later release"):
        compat.current({"format": number}, "here")


@pytest.mark.parametrize(
    ("method", "gone"),
    [
        ("dreml", {"bier", "baseline", "combine"}),
        ("bier", {"baseline"}),
        ("baseline", {"bier", "combine"}),
        ("distill", set()),
    ],
)
def test_the_first_format_said_of_each_method_what_others_have(method: str, gone: set[str]) -> None:
    saved = {"method": method, "bier": {}, "baseline": {}, "combine": "share", "recipe": {}}
    assert compat.current(saved, "here") == {name: saved[name] for name in saved.keys() - gone}
    stamped = compat.stamped(saved)
    assert stamped.keys() == {"format", "muster", *saved}
    assert compat.current(stamped, "here") == saved


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        ("data", {"repeats": 1, "vehicleid_protocol": "reid"}, "repeats = 1: a spread needs at least 2"),
        ("data", {"repeats": 1001, "vehicleid_protocol": "reid"}, "repeats = 1001: 1000 is the most"),
        ("data", {"repeats": 9}, "repeats = 9 has no effect"),
        ("data", {"train_classes": -1}, "train_classes = -1: must not be negative"),
        ("data", {"val_classes": -1}, "val_classes = -1: must not be negative"),
        ("ensemble", {"D": 1}, "D = 1: an embedding needs at least 2"),
        ("ensemble", {"L": 0}, "L = 0: an ensemble needs at least 1"),
        ("ensemble", {"L": 1001}, "L = 1001: an ensemble has at most 1000"),
        ("ensemble", {"threads": 0}, "threads = 0: must be at least 1"),
        ("resources", {"parallel": -1}, "parallel = -1: must not be negative"),
        ("resources", {"ranks": 0}, "ranks = 0: must be at least 1"),
        ("resources", {"checkpoint_steps": 0}, "checkpoint_steps = 0: must be at least 1"),
        (
            "resources",
            {"gpus_per_member": 1.5},
            "gpus_per_member = 1.5: a member trains on one GPU, or on a share of it: give 0 to 1",
        ),
        ("resources", {"gpus_per_member": -0.5}, "gpus_per_member = -0.5: a member trains on one GPU"),
        ("resources", {"eval_memory": "much"}, "eval_memory = 'much': write 512MB or 2GB"),
    ],
)
def test_a_value_out_of_range_is_refused_alone(section: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="=") as caught:
        KINDS[section](**changes)
    assert str(caught.value).startswith(said)
    assert ";" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("data", {"repeats": 2, "vehicleid_protocol": "reid", "train_classes": 0, "val_classes": 0}),
        ("data", {"repeats": 1000, "vehicleid_protocol": "reid"}),
        ("ensemble", {"D": 2, "L": 1, "threads": 1}),
        ("ensemble", {"L": 1000}),
        ("resources", {"ranks": 1, "checkpoint_steps": 1, "parallel": 0, "gpus_per_member": 0}),
        ("resources", {"gpus_per_member": 1.0}),
        ("resources", {"eval_memory": "1"}),
    ],
)
def test_the_ends_of_each_range_are_in_it(section: str, changes: dict[str, Any]) -> None:
    found = KINDS[section](**changes)
    assert {name: getattr(found, name) for name in changes} == changes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2GB", 2 * 10**9), ("512MB", 512 * 10**6), ("3kb", 3000), ("1GiB", 2**30), ("2MiB", 2**21), ("1KiB", 1024),
        ("7", 7), ("7B", 7), (" 1.5 MB ", 1_500_000), ("0.4", 0), ("-1GB", 0), ("", 0), ("GB", 0), ("1TB", 0),
        ("inf", 0), ("nan", 0), ("1e400", 0),
    ],
)  # fmt: skip
def test_bytes_are_read_as_they_are_written(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("changes", "share", "devices"),
    [({}, 1.0, 1.0), ({"gpus_per_member": 0}, 1.0, 1.0), ({"gpus_per_member": 0.25}, 0.25, 0.25),
     ({"ranks": 4, "gpus_per_member": 0.5}, 0.5, 2.0), ({"ranks": 3}, 1.0, 3.0)],
)  # fmt: skip
def test_a_model_takes_its_ranks_shares_of_devices(changes: Any, share: float, devices: float) -> None:
    found = Resources(**changes)
    assert (found.share, found.devices) == (share, devices)


def test_the_data_set_that_is_opened_is_the_one_that_is_asked_for(tmp_path: Any) -> None:
    for test_list in ("small", "large"):
        data: Any = open_data(DataRequest(dataset="vehicleid", root=str(tmp_path), test_list=test_list))
        assert "VehicleID" in data.traits.title
        assert data.test_list == test_list
        assert data.root == tmp_path
    assert open_data(DataRequest(dataset="cub200", root=str(tmp_path), allow_counts=True)).allow_counts
    with pytest.raises(UsageError, match="nothing"):
        open_data(DataRequest(dataset="nothing"))


def test_a_method_s_own_part_says_by_default_that_it_is_plain() -> None:
    dreml, bier = REQUEST.settings, load(None, {"method": "bier"}, []).settings
    assert (dreml.prefix, dreml.combination, dreml.input_runs, dreml.notes()) == ("", None, (), [])
    assert (dreml.drawn_at_once, bier.drawn_at_once) == (1, 128)
    assert bier.combination == Combination((96, 160, 256), "share")
    assert REQUEST.one_model is False
    assert load(None, {"method": "bier"}, []).one_model is True


@pytest.mark.parametrize(
    "place", ["s3:/KEY:HIDDEN@bucket/p", "s3:/bucket/p?secret_key=HIDDEN", "gs:/K:HIDDEN@b"]
)
def test_a_uri_with_a_slash_too_few_is_refused_without_its_secret(place: str) -> None:
    with pytest.raises(UsageError, match="a URI has two slashes, as ") as raised:
        whole_path(place)
    assert "HIDDEN" not in str(raised.value)
    assert str(raised.value).startswith(place.partition(":")[0] + ":/b")
