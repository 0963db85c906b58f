"""From an image file to RGB pixels: which files are pictures, what is taken of them, and what must be said of it.

One rule for everybody's pictures, whatever wrote them. The papers' data sets are read as their authors' code reads
them; one's own are read by the same code, told to look closer (`PictureRule`).

Colours are taken as they are stored: an embedded colour profile is not applied, and CMYK is turned into RGB by
Pillow's formula, which knows no inks. Of several pages or frames the first is taken, of 16 bits the upper 8.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

#: Formats that are read. Left out are those that Pillow hands to programs (PostScript to Ghostscript), and data that
#: are no pictures.
FORMATS = (
    "JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "QOI", "PSD", "ICO",
    "PCX", "SGI", "SUN", "DDS", "ICNS", "XBM", "XPM", "HEIF",
)  # fmt: skip
#: Of these the first bytes tell that a file is one, whatever its name.
_TELLING = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "JPEG2000", "AVIF", "QOI", "PSD", "DDS")
#: What begins the files of iPhones.
_HEIC = re.compile(rb"....ftyp(heic|heix|hevc|hevx|heim|heis|mif1|msf1)", re.DOTALL)
HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
#: So many first bytes tell what a file is.
HEAD = 16
#: Pixels of the largest picture, where nobody says otherwise: where Pillow, too, stops believing that one is meant.
MOST_PIXELS = 178_956_970
#: A disk writes at least so many bytes at once: what a copy that crashed never wrote is a row of such blocks of zeros.
BLOCK = 512

PAGES = "several pages or frames, of which the first is taken"
ALPHA = "transparent pixels"
ROTATED = "a rotation in EXIF that is not followed"
DEEP = "16 bits a channel, of which the upper 8 are taken"
PROFILE = "a colour profile other than sRGB, which is not applied"
CUT = "data that look cut"


@dataclass(frozen=True)
class PictureRule:
    """How closely a picture is looked at. As it is by default, the papers' data sets are read."""

    background: str = ""
    "The colour that transparent pixels stand on; empty: transparency is dropped, and what lies under it comes out."
    transpose: bool = False
    "Turn a picture as its EXIF says."
    strict: bool = False
    "Refuse what decodes and is not what the picture was: files with holes, 16 bits of which the upper are empty. Else \
no more is said of a picture than that its data look cut."
    most_pixels: int = MOST_PIXELS


class Picture(NamedTuple):
    """A decoded picture as RGB, and what must be said of it."""

    image: Image.Image
    remarks: tuple[str, ...] = ()


class BadPictureError(ValueError):
    """A file that gives no picture; its text says why, in our words, with the decoder's behind them."""


@cache
def formats() -> tuple[str, ...]:
    """The formats that can be read here: HEIF needs the extra `heic`."""
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    Image.init()
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours, and says which setting it is
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def suffixes() -> frozenset[str]:
    """The suffixes of pictures that can be read here, in small letters; HEIC's only with its extra."""
    readable = formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


def is_picture(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a picture, whatever its name."""
    return bool(_HEIC.match(head)) or any(accept(head) for accept in _accepts())


@cache
def _accepts() -> tuple[Any, ...]:
    return tuple(accept for name in _TELLING if name in formats() and (accept := Image.OPEN[name][1]))


def read_picture(source: Path | IO[bytes], rule: PictureRule = PictureRule()) -> Picture:
    """A whole image file as RGB. Raises BadPictureError if it gives no picture that is whole."""
    try:
        with _opened(source, rule) as image:
            remarks = header_remarks(image) if rule.strict else set()
            if fault := _fault(source, image):
                if rule.strict:
                    raise BadPictureError(fault)
                remarks.add(CUT)
            image.load()
            if rule.strict and image.format == "PNG" and _is_rotated(image):  # known only now
                remarks.add(ROTATED)
            return _as_rgb(image, rule, remarks)
    except (BadPictureError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise BadPictureError(_cause(source, error)) from error


def read_header(source: Path | IO[bytes], rule: PictureRule) -> set[str]:
    """What must be said of a picture, without decoding it. Raises BadPictureError."""
    try:
        with _opened(source, rule) as image:
            return header_remarks(image)
    except BadPictureError:
        raise
    except Exception as error:
        raise BadPictureError(_cause(source, error)) from error


def _opened(source: Path | IO[bytes], rule: PictureRule) -> Image.Image:
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise BadPictureError("it is no file")  # a pipe would never end
    _quiet()
    image = Image.open(source, formats=formats())
    width, height = image.size
    if width * height > rule.most_pixels:
        image.close()
        raise BadPictureError(
            f"its {width} x {height} pixels are more than --max-pixels {rule.most_pixels} allows"
        )
    return image


def _quiet() -> None:
    """Pillow's warnings name no file: what is worth saying of a picture is said by us, with its name."""
    silent = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)
    if silent not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\b")


def is_colour(text: str) -> bool:
    """Whether a text is the name of a colour, or #rrggbb."""
    try:
        ImageColor.getrgb(text)
    except ValueError:
        return False
    return True


def header_remarks(image: Image.Image) -> set[str]:
    """What the header of an opened picture says that is worth telling."""
    found = set()
    if image.format != "MPO" and getattr(image, "is_animated", False):  # an MPO's others are previews
        found.add(PAGES)
    if _has_alpha(image):
        found.add(ALPHA)
    if _is_rotated(image):
        found.add(ROTATED)
    if ";16" in _raw_mode(image) or image.mode.startswith("I;16"):
        found.add(DEEP)
    profile = image.info.get("icc_profile")
    if profile and not any("sRGB".encode(how) in profile for how in ("ascii", "utf-16-be")):
        found.add(PROFILE)
    return found


def _is_rotated(image: Image.Image) -> bool:
    if image.format == "PNG" and "exif" not in image.info:
        return False  # asked for it, Pillow would decode the picture, as it may come last
    return image.getexif().get(0x0112, 1) not in {0, 1}


def _raw_mode(image: Image.Image) -> str:
    """How pixels lie in the file, as Pillow calls it."""
    tiles = getattr(image, "tile", None)
    args = tiles[0][3] if tiles else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info


def _as_rgb(image: Image.Image, rule: PictureRule, remarks: set[str]) -> Picture:
    """The loaded picture as RGB, and the remarks that hold of its pixels."""
    if rule.transpose and ROTATED in remarks:
        image = ImageOps.exif_transpose(image)
        remarks.discard(ROTATED)
    grey = image.mode.startswith("I;16")
    if grey:  # Pillow would clip it to white
        deep = np.asarray(image)
        image = Image.fromarray((deep >> 8).astype(np.uint8))
        if rule.strict and 0 < deep.max() < 1 << 12:
            raise BadPictureError(_dark(int(deep.max())))
    elif image.mode in {"I", "F"}:
        raise BadPictureError(
            f"pixels of mode {image.mode} have no agreed range: convert it to 8 bits a channel"
        )
    if ALPHA in remarks:
        alpha = image.convert("RGBA")
        if alpha.getchannel("A").getextrema()[0] == 255:
            remarks.discard(ALPHA)
        elif rule.background:
            under = Image.new("RGBA", alpha.size, (*ImageColor.getrgb(rule.background)[:3], 255))
            under.alpha_composite(alpha)
            image = under
    if image.mode != "RGB":  # else it would be copied
        image = image.convert("RGB")
    if rule.strict and not grey and DEEP in remarks and (most := int(np.asarray(image).max())) < 16:
        raise BadPictureError(_dark(most << 8 | 255))
    return Picture(image, tuple(sorted(remarks)))


def _dark(most: int) -> str:
    return (
        f"its 16-bit values end at {most} of 65535, so that the upper 8 bits, which are taken, are nearly empty: "
        "convert it to 8 bits a channel"
    )


def _fault(source: Path | IO[bytes], image: Image.Image) -> str:
    """Why the data of an opened picture are not whole, though a decoder may fill them up; empty if they seem so."""
    if image.format not in {"JPEG", "MPO", "WEBP", "AVIF", "HEIF", "JPEG2000", "GIF"}:
        return ""  # their decoders notice, or zeros are black
    if isinstance(source, Path):
        data = source.read_bytes()
    else:
        place = source.tell()
        source.seek(0)
        data = source.read()
        source.seek(place)
    start, end = 0, len(data)
    if image.format in {"JPEG", "MPO"}:
        start = _scan(data)
        end = data.find(b"\xff\xd9", start) + 2  # what follows is no part of the picture
        if end < 2:
            return "its data end before the end marker: the file is cut, or its end was never written"
    hole = _hole(data[:end], start)
    if hole is not None:
        return f"it has a hole of {hole[1] - hole[0]} zeros at byte {hole[0]}: its copy was never finished"
    return ""


def _scan(data: bytes) -> int:
    """Where the pixels of a JPEG begin: after that, FF D9 can only be its end (ITU-T T.81, B.1.1.2)."""
    at = 2
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 3:
        kind = data[at + 1]
        if kind == 0xDA:
            return at
        if kind in {0x00, 0x01, 0xFF} or 0xD0 <= kind <= 0xD8:
            at += 1 if kind == 0xFF else 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def _hole(data: bytes, start: int) -> tuple[int, int] | None:
    """Whole blocks of zeros in compressed data. A long row of zeros can be meant, as in a plain sky; one that begins
    and ends where blocks of a disk do can't."""
    zeros = bytes(BLOCK)
    at = data.find(zeros, start)
    while at >= 0:
        end = len(data) - len(data[at:].lstrip(b"\0"))
        if at % BLOCK == 0 and (end % BLOCK == 0 or end == len(data)):
            return at, end
        at = data.find(zeros, end)
    return None


def _cause(source: Path | IO[bytes], error: Exception) -> str:
    """Why a file gives no picture, in our words, and what the decoder said."""
    said = str(error).strip() or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        return _no_picture(_head(source))
    if isinstance(error, OSError) and error.strerror:
        return f"it can't be opened: {error.strerror}"
    if any(word in said.lower() for word in ("truncated", "premature")) or isinstance(error, EOFError):
        return f"the file is truncated (the decoder says: {said})"
    return f"its data are damaged (the decoder says: {type(error).__name__}: {said})"


def _no_picture(head: bytes) -> str:
    """Why a file that begins so is not even opened."""
    if not head:
        return "the file is empty"
    if _HEIC.match(head) and "HEIF" not in formats():
        return "it is HEIC, and the package that reads it is missing: pip install pillow-heif"
    if is_picture(head):
        return "its data are damaged: it begins as a picture does, and its header can't be read"
    return f"it is no picture of a kind that is read: it begins with {head[:8]!r}"


def _head(source: Path | IO[bytes]) -> bytes:
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file.read(HEAD)
    source.seek(0)
    return source.read(HEAD)
