"""Image files as they come: what is decoded, how, and which are refused."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from PIL import EpsImagePlugin, Image, PngImagePlugin

from muster.workers.datasets import ImageFolder, Item
from muster.workers.datasets.pictures import BadPictureError, PictureRule, read_picture
from tests.fuzzing import bounded, byte_mutations, fuzzed

#: As one's own pictures are read.
STRICT = PictureRule(background="white", strict=True)
RNG = np.random.default_rng(0)
SMOOTH = np.linspace(0, 255, 40 * 30 * 3).reshape(30, 40, 3).astype(np.uint8)


def read_rgb(path: Path, rule: PictureRule = PictureRule()) -> Image.Image:
    """A file as the papers' data sets are read."""
    return read_picture(path, rule).image


def colour() -> Image.Image:
    return Image.fromarray(SMOOTH)


def test_a_greyscale_jpeg_becomes_rgb(tmp_path: Path) -> None:
    colour().convert("L").save(tmp_path / "grey.jpg")
    image = read_rgb(tmp_path / "grey.jpg")
    pixels = np.asarray(image)
    assert image.mode == "RGB"
    assert pixels.shape == (30, 40, 3)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_a_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    colour().convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    pixels = np.asarray(read_rgb(tmp_path / "print.jpg")).astype(int)
    assert pixels.shape == (30, 40, 3)
    assert abs(pixels - SMOOTH).mean() < 6


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_an_exif_rotation_is_ignored(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    colour().save(tmp_path / "turned.jpg", exif=exif, quality=95)
    colour().save(tmp_path / "plain.jpg", quality=95)
    assert Image.open(tmp_path / "turned.jpg").getexif()[0x0112] == orientation
    assert np.array_equal(read_rgb(tmp_path / "turned.jpg"), read_rgb(tmp_path / "plain.jpg"))


def test_the_alpha_of_a_png_is_dropped(tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, (30, 40, 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([SMOOTH, alpha], axis=2)).save(tmp_path / "glass.png")
    assert np.array_equal(read_rgb(tmp_path / "glass.png"), SMOOTH)


def test_a_palette_a_bitmap_and_a_gif_become_rgb(tmp_path: Path) -> None:
    colour().convert("P").save(tmp_path / "few.png")
    colour().convert("1").save(tmp_path / "two.png")
    colour().save(tmp_path / "moving.gif", save_all=True, append_images=[colour().rotate(180)])
    for name in ("few.png", "two.png", "moving.gif"):
        assert np.asarray(read_rgb(tmp_path / name)).shape == (30, 40, 3)


def test_of_sixteen_bits_the_upper_eight_are_taken(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (30, 40), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    pixels = np.asarray(read_rgb(tmp_path / "deep.png"))
    assert np.array_equal(pixels[..., 1], deep >> 8)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_an_agreed_range_are_refused(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(SMOOTH[..., 0].astype(dtype)).save(tmp_path / "range.tiff")
    with pytest.raises(ValueError, match="no agreed range"):
        read_rgb(tmp_path / "range.tiff")


def truncated(path: Path) -> None:
    colour().save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-400])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("<html>404 Not Found</html>\n")


def header_only(path: Path) -> None:
    colour().save(path)
    path.write_bytes(path.read_bytes()[:30])


BROKEN: list[Callable[[Path], None]] = [truncated, empty, text, header_only]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("break_", BROKEN)
def test_a_broken_file_raises_and_never_gives_half_an_image(
    break_: Callable[[Path], None], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"broken{suffix}"
    break_(path)
    with pytest.raises(BadPictureError):
        read_rgb(path)


@pytest.mark.parametrize(
    "name",
    [
        "UPPER.JPG",
        "with space.jpeg",
        'it\'s "quoted".png',
        "グリフ é.jpg",
        "-n.jpg",
        "$HOME.jpg",
        "a%20b#c?.png",
    ],
)
def test_odd_file_names_are_read_like_any_other(name: str, tmp_path: Path) -> None:
    for label in ("a", "b", "c d", "ü'\""):
        (tmp_path / label).mkdir()
        colour().save(tmp_path / label / name)
    data = ImageFolder(tmp_path)
    splits = data.splits()
    items = [item for split in splits.values() for item in split.items]
    assert [item.image_id for item in items] == [f"{label}/{name}" for label in ("a", "b", "c d", "ü'\"")]
    assert all(data.read(item).image.size == (40, 30) for item in items)
    assert data.source_digest(splits["train"]) == data.source_digest(splits["train"])


def test_an_image_is_named_by_its_place_below_the_root(image_folder: Path) -> None:
    data = ImageFolder(image_folder)
    first = data.splits()["train"].items[0]
    assert first == Item("class 00/0.jpg", "class 00")
    assert data.read(first).image.size == Image.open(image_folder / "class 00" / "0.jpg").size


def test_a_file_of_several_jpegs_gives_its_first(tmp_path: Path) -> None:
    colour().save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[colour().rotate(180)])
    assert np.asarray(read_rgb(tmp_path / "phone.jpg")).shape == (30, 40, 3)


def test_postscript_under_an_images_name_is_handed_to_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would have Ghostscript draw it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "bin/gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    drawing = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "image.jpg").write_text(drawing)
    with pytest.raises(BadPictureError, match="no picture of a kind"):
        read_rgb(tmp_path / "image.jpg")
    assert not (tmp_path / "ran").exists()


def test_what_would_never_end_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "device.jpg"):
        with pytest.raises(ValueError, match="it is no file"):
            read_rgb(tmp_path / name)


def png_of(width: int, height: int) -> bytes:
    """A PNG file of some hundred bytes that says it is so large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (60_000, 60_000), (2**31 - 1, 1), (0, 5)])
def test_sizes_that_nobody_means_are_refused_before_memory_is_taken(
    size: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of(*size))
    with bounded(1 << 30), pytest.raises(BadPictureError):
        read_rgb(tmp_path / "bomb.png")


def test_a_text_bomb_is_refused(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (1 << 23), zip=True)
    colour().save(tmp_path / "text.png", pnginfo=info)
    with bounded(1 << 30), pytest.raises(ValueError, match=r"[Tt]oo large|[Dd]ecompressed"):
        read_rgb(tmp_path / "text.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM"])
def test_a_changed_image_is_read_or_bad(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"  # a wrong name, for most
    colour().resize((12, 9)).save(path, kind)
    whole = path.read_bytes()

    @fuzzed(20)
    @given(byte_mutations(whole))
    def each(data: bytes) -> None:
        path.write_bytes(data)
        with bounded():
            for rule in (PictureRule(), STRICT):
                with contextlib.suppress(BadPictureError):
                    image = read_rgb(path, rule)
                    assert image.mode == "RGB"

    each()
