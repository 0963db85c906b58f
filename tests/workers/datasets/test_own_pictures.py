"""What is taken of a picture's file where it is one's own: alpha, 16 bits, damage that decodes, EXIF, pages."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muster.workers.datasets.pictures import (
    ALPHA,
    BLOCK,
    CUT,
    DEEP,
    PAGES,
    PROFILE,
    ROTATED,
    BadPictureError,
    Picture,
    PictureRule,
    read_header,
    read_picture,
)

OWN = PictureRule(background="white", strict=True)
SMOOTH = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)


def pixels(found: Picture) -> np.ndarray:
    return np.asarray(found.image)


def photograph(side: int = 400, seed: int = 0) -> Image.Image:
    """Something of which a JPEG has tens of kilobytes."""
    noise = np.random.default_rng(seed).normal(0, 40, (side, side, 3))
    slope = np.linspace(60, 200, side)[None, :, None]
    return Image.fromarray((slope + noise).clip(0, 255).astype(np.uint8))


# Transparency


def clear_of(mode: str) -> Image.Image:
    """Red in the left half; in the right half fully transparent, with blue under it."""
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, :4] = (255, 0, 0, 255)
    image[:, 4:] = (0, 0, 255, 0)
    found = Image.fromarray(image)
    return found if mode == "RGBA" else found.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("LA", "PNG"), ("PA", "PNG")]
)
def test_transparent_pixels_stand_on_the_background(mode: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"clear.{kind.lower()}"
    image = clear_of("RGBA").quantize() if mode == "PA" else clear_of(mode)
    image.save(path, lossless=True) if kind == "WEBP" else image.save(path)
    found = read_picture(path, OWN)
    assert found.remarks == (ALPHA,)
    assert (pixels(found)[:, 4:] == 255).all()
    on_black = read_picture(path, PictureRule(background="#000000", strict=True))
    assert (pixels(on_black)[:, 4:] == 0).all()
    assert (pixels(on_black)[:, :4] == pixels(found)[:, :4]).all()


def test_a_colour_that_is_said_to_be_transparent_is(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "key.png", transparency=(0, 0, 0))
    assert (pixels(read_picture(tmp_path / "key.png", OWN)) == 255).all()


def test_an_alpha_channel_that_hides_nothing_changes_nothing(tmp_path: Path) -> None:
    opaque = np.concatenate([SMOOTH, np.full((48, 64, 1), 255, np.uint8)], axis=2)
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    found = read_picture(tmp_path / "opaque.png", OWN)
    assert found.remarks == ()
    assert np.array_equal(pixels(found), SMOOTH)


def test_published_sets_are_read_as_they_were(tmp_path: Path) -> None:
    clear_of("RGBA").save(tmp_path / "clear.png")
    found = pixels(read_picture(tmp_path / "clear.png"))
    assert (found[:, 4:] == (0, 0, 255)).all()


# 16 bits


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("most", [255, 4095])
def test_sixteen_bits_of_which_the_upper_are_empty_are_refused(
    suffix: str, most: int, tmp_path: Path
) -> None:
    values = np.linspace(0, most, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"dark.{suffix}")
    with pytest.raises(BadPictureError, match=f"end at {most} of 65535.*convert it to 8 bits"):
        read_picture(tmp_path / f"dark.{suffix}", OWN)


def test_of_sixteen_bits_that_are_used_the_upper_eight_are_taken_and_it_is_said(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    found = read_picture(tmp_path / "deep.png", OWN)
    assert found.remarks == (DEEP,)
    assert np.array_equal(pixels(found)[..., 0], values >> 8)
    assert read_header(tmp_path / "deep.png", OWN) == {DEEP}


def colours_of_sixteen_bits(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, RGB, which Pillow can't write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_colours_of_sixteen_bits_are_not_cut_in_silence(tmp_path: Path) -> None:
    deep = SMOOTH.astype(np.uint16) * 257
    (tmp_path / "deep.png").write_bytes(colours_of_sixteen_bits(deep))
    found = read_picture(tmp_path / "deep.png", OWN)
    assert found.remarks == (DEEP,)
    assert np.array_equal(pixels(found), SMOOTH)
    (tmp_path / "dark.png").write_bytes(colours_of_sixteen_bits(SMOOTH.astype(np.uint16)))
    with pytest.raises(BadPictureError, match="nearly empty"):
        read_picture(tmp_path / "dark.png", OWN)


# Damage that decodes


def jpeg(progressive: bool = False, optimize: bool = False) -> bytes:
    buffer = io.BytesIO()
    photograph().save(buffer, "JPEG", quality=90, progressive=progressive, optimize=optimize)
    return buffer.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_second_half_is_zeros_is_no_picture(progressive: bool, tmp_path: Path) -> None:
    data = jpeg(progressive)
    path = tmp_path / "crashed.jpg"
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(BadPictureError, match="end before the end marker"):
        read_picture(path, OWN)
    if not progressive:  # of which the decoder notices
        assert CUT in read_picture(path).remarks  # a published set's: as it is, and told


@pytest.mark.parametrize(("start", "end"), [(8192, 12288), (4096 * 3, 4096 * 5), (512 * 20, 512 * 22)])
def test_a_hole_in_the_middle_is_found(start: int, end: int, tmp_path: Path) -> None:
    data = jpeg()
    path = tmp_path / "hole.jpg"
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    with pytest.raises(BadPictureError, match=f"hole of .* zeros at byte {start}|truncated|damaged"):
        read_picture(path, OWN)


def test_a_webp_that_was_never_written_to_its_end_is_found(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    photograph().save(buffer, "WEBP", quality=90)
    data = buffer.getvalue()
    (tmp_path / "hole.webp").write_bytes(data[:4096] + bytes(len(data) - 4096))
    with pytest.raises(BadPictureError):
        read_picture(tmp_path / "hole.webp", OWN)


@pytest.mark.parametrize("optimize", [False, True])
def test_plain_pictures_are_whole(optimize: bool, tmp_path: Path) -> None:
    """Of a plain area an optimised JPEG has kilobytes of zeros."""
    for side in (100, 1000, 3000):
        Image.new("RGB", (side, side), (200, 30, 40)).save(tmp_path / "plain.jpg", optimize=optimize)
        assert read_picture(tmp_path / "plain.jpg", OWN).remarks == ()


def test_what_follows_the_end_of_a_jpeg_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "more.jpg").write_bytes(jpeg() + bytes(4096) + b"a phone's own data")
    assert read_picture(tmp_path / "more.jpg", OWN).remarks == ()


def on_a_block(data: bytes) -> bytes:
    """A JPEG that ends where a block of a disk does: a comment behind its first mark fills it up."""
    lacking = -(len(data) + 4) % BLOCK
    return data[:2] + b"\xff\xfe" + (lacking + 2).to_bytes(2, "big") + b"x" * lacking + data[2:]


@pytest.mark.parametrize("behind", [bytes(4096), bytes(4096) + b"\xff\xd9", b"\xff\xd9" + bytes(4096)])
def test_zeros_behind_the_end_of_a_jpeg_are_no_hole(behind: bytes, tmp_path: Path) -> None:
    """As cameras fill up files of one size."""
    whole = on_a_block(jpeg())
    assert len(whole) % BLOCK == 0
    (tmp_path / "filled.jpg").write_bytes(whole + behind)
    assert read_picture(tmp_path / "filled.jpg", OWN).remarks == ()
    cut = whole[:8192] + bytes(4096) + whole[12288:]
    (tmp_path / "hole.jpg").write_bytes(cut + behind)
    with pytest.raises(BadPictureError, match=r"hole of .* zeros at byte 8192|truncated|damaged"):
        read_picture(tmp_path / "hole.jpg", OWN)


def test_zeros_behind_a_thumbnail_in_exif_are_looked_at(tmp_path: Path) -> None:
    """The end of a thumbnail is not the picture's."""
    buffer = io.BytesIO()
    photograph(40).save(buffer, "JPEG")
    exif = b"Exif\0\0" + buffer.getvalue()
    data = jpeg()
    whole = on_a_block(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    (tmp_path / "whole.jpg").write_bytes(whole)
    assert read_picture(tmp_path / "whole.jpg", OWN).remarks == ()
    (tmp_path / "hole.jpg").write_bytes(whole[:12288] + bytes(4096) + whole[16384:])
    with pytest.raises(BadPictureError, match=r"hole of .* zeros at byte 12288|truncated|damaged"):
        read_picture(tmp_path / "hole.jpg", OWN)


# EXIF, pages, profiles


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_a_rotation_in_exif_is_told_and_followed_where_it_is_asked_for(
    orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(SMOOTH).save(tmp_path / "turned.png", exif=exif)
    found = read_picture(tmp_path / "turned.png", OWN)
    assert found.remarks == (ROTATED,)
    assert np.array_equal(pixels(found), SMOOTH)
    turned = read_picture(tmp_path / "turned.png", PictureRule(transpose=True, strict=True))
    assert turned.remarks == ()
    assert turned.image.size == ((64, 48) if orientation < 5 else (48, 64))
    wanted = {2: SMOOTH[:, ::-1], 3: SMOOTH[::-1, ::-1], 6: np.rot90(SMOOTH, -1), 8: np.rot90(SMOOTH)}
    assert np.array_equal(pixels(turned), wanted[orientation])


@pytest.mark.parametrize("suffix", ["gif", "tiff", "webp", "png"])
def test_of_several_pages_the_first_is_taken_and_it_is_said(suffix: str, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    path = tmp_path / f"many.{suffix}"
    first.save(path, save_all=True, append_images=[second])
    found = read_picture(path, OWN)
    assert PAGES in found.remarks
    red, _, blue = pixels(found)[4, 4]
    assert red > 200
    assert blue < 50
    assert PAGES in read_header(path, OWN)


def test_another_colour_profile_is_told(tmp_path: Path) -> None:
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = Image.fromarray(SMOOTH)
    image.save(tmp_path / "srgb.png", icc_profile=srgb)
    image.save(tmp_path / "other.png", icc_profile=lab)
    assert read_picture(tmp_path / "srgb.png", OWN).remarks == ()
    assert read_picture(tmp_path / "other.png", OWN).remarks == (PROFILE,)


# Words


def test_the_limit_on_pixels_is_a_setting_that_the_message_names(tmp_path: Path) -> None:
    Image.fromarray(SMOOTH).save(tmp_path / "large.png")
    with pytest.raises(BadPictureError, match="64 x 48 pixels are more than --max-pixels 3000 allows"):
        read_picture(tmp_path / "large.png", PictureRule(most_pixels=3000))
    assert read_picture(tmp_path / "large.png", PictureRule(most_pixels=3072)).remarks == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"<html>404</html>", "no picture of a kind that is read: it begins with b'<html>40'"),
        (b"\x89PNG\r\n\x1a\n", "it begins as a picture does"),
        (b"GIF89a", "it begins as a picture does"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "it begins as a picture does"),
    ],
)
def test_why_a_file_is_no_picture_is_said_in_our_words(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(BadPictureError, match=says):
        read_picture(tmp_path / "bad.jpg", OWN)


@pytest.mark.filterwarnings("error")
def test_no_warning_of_pillows_gets_out(tmp_path: Path) -> None:
    """They name no file: a large picture, a palette with transparency in bytes, an EXIF that is damaged."""
    Image.new("1", (14000, 14000)).save(tmp_path / "large.png")
    read_picture(tmp_path / "large.png", PictureRule(most_pixels=1 << 30))
    image = clear_of("RGBA").quantize()
    image.save(tmp_path / "palette.png", transparency=b"\0\xff")
    read_picture(tmp_path / "palette.png")
    Image.fromarray(SMOOTH).save(tmp_path / "exif.jpg", exif=b"Exif\0\0II*\0\xff\0\0\0garbage")
    read_picture(tmp_path / "exif.jpg")
