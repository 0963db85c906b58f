"""`glyphs`: 400 characters in 16 typefaces, drawn on the spot. It needs no download.

Characters are Unicode letters and digits that all 16 text faces bundled with matplotlib cover. A class is
a character; a character that looks like another one in any face is dropped. A fixed shuffle takes 200
classes for training and 200 others, unseen, for test. Each image is one face's drawing of the character
at 32 x 32 pixels with random colours, size, rotation, position and noise, all a function of (character,
face): the set is the same in every run. It is small and easy beside the papers' sets, and is no stand-in
for them; it is there so that the whole job can be run and tested anywhere.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from muster.workers.datasets.base import Item, Reading, Split, Traits
from muster.workers.datasets.own.account import Account
from muster.workers.datasets.pictures import Picture
from muster.workers.errors import UsageError
from muster.workers.rng import permutation, uniforms

SIDE = 32
CLASSES_PER_SPLIT = 200
#: Raised when the drawing changes.
DRAWING_VERSION = 1
FACES = (
    "DejaVuSans DejaVuSans-Bold DejaVuSans-Oblique DejaVuSans-BoldOblique "
    "DejaVuSansMono DejaVuSansMono-Bold DejaVuSansMono-Oblique DejaVuSansMono-BoldOblique "
    "DejaVuSerif DejaVuSerif-Bold DejaVuSerif-Italic DejaVuSerif-BoldItalic "
    "STIXGeneral STIXGeneralBol STIXGeneralItalic STIXGeneralBolIta"
).split()


class Glyphs:
    """The embedded data set: 200 + 200 classes of 16 images, 32 x 32 pixels, RGB."""

    name = "glyphs"
    differences: Sequence[str] = ()
    traits = Traits(
        title="glyphs (characters in 16 typefaces)",
        flip=False,
        mean=(0.5, 0.5, 0.5),
        std=(0.3, 0.3, 0.3),
        picture_side=32,
        preset="glyphs",
        backbone="conv4",
        meta_classes=100,
    )

    def splits(self) -> Mapping[str, Split]:
        """Train and test: 3,200 images each, of disjoint characters."""
        characters = _characters()
        order = permutation(("glyphs", "split"), len(characters))
        chosen = [characters[i] for i in order[: 2 * CLASSES_PER_SPLIT]]
        return {
            "train": _split("train", chosen[:CLASSES_PER_SPLIT]),
            "test": _split("test", chosen[CLASSES_PER_SPLIT:]),
        }

    def read(self, item: Item) -> Picture:
        """Draws one image, RGB, 32 x 32."""
        code, face = item.image_id.split("/")
        return Picture(_draw(chr(int(code[2:], 16)), face))

    image_root = None
    reading = Reading(version=1)
    account: Account | None = None
    warnings: Sequence[str] = ()

    def source_digest(self, split: Split) -> str:
        """The drawing is a function of this code and the fonts: their digest."""
        found = hashlib.sha256(f"glyphs/{DRAWING_VERSION}/{split.name}".encode())
        for face in FACES:
            found.update(_font_path(face).read_bytes())
        return found.hexdigest()[:32]


def _split(name: str, characters: list[str]) -> Split:
    names = sorted(f"U+{ord(c):04X}" for c in characters)
    return Split(name, [Item(f"{code}/{face}", code) for code in names for face in FACES], names)


def _font_path(face: str) -> Path:
    package = find_spec("matplotlib")
    if package is None or not package.submodule_search_locations:
        raise UsageError("The data set glyphs draws with matplotlib's fonts: pip install matplotlib.")
    return Path(package.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf" / f"{face}.ttf"


@cache
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_path(face)), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _characters() -> list[str]:
    """Letters and digits that every face covers, less those that look like another one in some face."""
    from matplotlib.ft2font import FT2Font

    covered = set.intersection(*(set(FT2Font(str(_font_path(face))).get_charmap()) for face in FACES))
    letters = [chr(c) for c in sorted(covered) if unicodedata.category(chr(c)) in {"Lu", "Ll", "Lo", "Nd"}]
    looks: set[tuple[str, bytes]] = set()
    kept = []
    for character in letters:
        drawn = {(face, _plain(character, face)) for face in FACES}
        if not drawn & looks:
            kept.append(character)
            looks |= drawn
    return kept


def _plain(character: str, face: str) -> bytes:
    """The bare glyph, black on white, to compare looks."""
    image = Image.new("L", (48, 48))
    ImageDraw.Draw(image).text((12, 8), character, font=_font(face, 24), fill=255)
    return image.tobytes()


def _draw(character: str, face: str) -> Image.Image:
    draws = uniforms(("glyphs", "image", ord(character), face, DRAWING_VERSION), 1, 16)[0]
    ink, paper = _colours(draws[8:])
    mask = Image.new("L", (4 * SIDE, 4 * SIDE))
    font = _font(face, round(4 * SIDE * (0.6 + 0.25 * draws[0])))
    left, top, right, bottom = font.getbbox(character)
    centre = (2 * SIDE - (left + right) / 2, 2 * SIDE - (top + bottom) / 2)
    ImageDraw.Draw(mask).text(centre, character, font=font, fill=255)
    shift = (4 * SIDE * 0.12 * (draws[1] - 0.5), 4 * SIDE * 0.12 * (draws[2] - 0.5))
    mask = mask.rotate(
        24 * (draws[3] - 0.5), Image.Resampling.BILINEAR, translate=(int(shift[0]), int(shift[1]))
    )
    cover = np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)[:, :, None] / 255
    noise = uniforms(("glyphs", "noise", ord(character), face, DRAWING_VERSION), SIDE * SIDE, 3) - 0.5
    pixels = paper + cover * (ink - paper) + (0.05 + 0.15 * draws[4]) * noise.reshape(SIDE, SIDE, 3)
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


def _colours(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dark ink on light paper, tinted at random: RGB in 0..1."""
    tints = 0.4 * (draws[2:8].reshape(2, 3) - 0.5)
    return 0.15 + 0.2 * draws[0] + tints[0], 0.65 + 0.2 * draws[1] + tints[1]
