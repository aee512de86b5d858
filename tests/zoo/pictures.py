"""Pictures drawn here, for models that read: a page, a line, a company's seal."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXT = "EDGED 2026 reads bundles\nQuick brown foxes, 13 of 40\nTemperatur 21.5 C / Druck 1013"
MEAN, SPREAD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SEALS = ("EDGED COMPANY", "SEAL OF 2026")


def page(scale: int = 2) -> np.ndarray:
    """Black text on white: uint8[height, width, 3]."""
    image = Image.new("RGB", (360, 120), "white")
    ImageDraw.Draw(image).multiline_text((12, 12), TEXT, fill="black", spacing=16)
    return np.asarray(image.resize((360 * scale, 120 * scale), Image.Resampling.LANCZOS))


def picture(height: int, width: int, row: int) -> np.ndarray:
    """A seal where it is large and square, else a ring beside a line: float64[3, height, width]."""
    if height == width >= 320:
        image = seal(height, SEALS[row % len(SEALS)])
    else:
        image = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(image)
        draw.ellipse((8, 8, height - 8, height - 8), outline="red", width=3)
        draw.text((height // 4, height // 2 - 6), f"EDGED {row}", fill="red")
        draw.text((height + 4, height // 3), f"No. {1234 + row} of 40", fill="black")
    return ((np.asarray(image, "f8") / 255 - MEAN) / SPREAD).transpose(2, 0, 1)


def seal(size: int, text: str) -> Image.Image:
    """Letters along the upper half of a red ring."""
    red = (210, 30, 30)
    image = Image.new("RGB", (size, size), "white")
    edge = (size * 0.06, size * 0.94)
    box = (edge[0], edge[0], edge[1], edge[1])
    ImageDraw.Draw(image).ellipse(box, outline=red, width=max(3, size // 60))
    font = ImageFont.load_default(size // 9)
    for place, letter in enumerate(text):
        angle = 0.35 * math.pi + (place - len(text) / 2) * 0.28
        tile = Image.new("RGBA", (size // 7, size // 7))
        ImageDraw.Draw(tile).text((size // 28, 0), letter, font=font, fill=red)
        tile = tile.rotate(-math.degrees(angle) - 90, expand=True)
        x = size / 2 + size * 0.34 * math.cos(angle) - tile.width / 2
        y = size / 2 + size * 0.34 * math.sin(angle) - tile.height / 2
        image.paste(tile, (int(x), int(y)), tile)
    return image
