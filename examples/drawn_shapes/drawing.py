"""Draws pictures of one plain shape each, with random colours, place, size, angle, and a little noise."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Picture = npt.NDArray[np.uint8]

OVERSAMPLING = 2  # points per pixel and direction, for smooth edges
LEAST_CONTRAST = 0.35  # between shape and ground, in the channel where they differ most


def polygon(radius: Floats, angle: Floats, corners: int) -> Mask:
    """A regular polygon with its corners on the unit circle."""
    middle = np.pi / corners
    folded = np.mod(angle, 2 * middle) - middle  # angle from the middle of the nearest side
    return np.less(radius * np.cos(folded), np.cos(middle))


def star(radius: Floats, angle: Floats) -> Mask:
    """A five-pointed star with its points on the unit circle and its notches at 0.42."""
    half = np.pi / 5
    folded = np.abs(np.mod(angle, 2 * half) - half)  # angle from the nearest notch, 0 to half
    x, y = radius * np.cos(half - folded), radius * np.sin(half - folded)  # the nearest point is at (1, 0)
    notch_x, notch_y = 0.42 * np.cos(half), 0.42 * np.sin(half)
    inside: Mask = (1 - x) * notch_y > y * (1 - notch_x)
    return inside


def cross(radius: Floats, angle: Floats) -> Mask:
    """Two bars at right angles."""
    x, y = np.abs(radius * np.cos(angle)), np.abs(radius * np.sin(angle))
    return (np.minimum(x, y) < 0.27) & (np.maximum(x, y) < 1)


SHAPES: dict[str, Callable[[Floats, Floats], Mask]] = {
    "circle": lambda radius, angle: radius < 1,
    "cross": cross,
    "ring": lambda radius, angle: (radius > 0.6) & (radius < 1),
    "square": lambda radius, angle: polygon(radius, angle, 4),
    "star": star,
    "triangle": lambda radius, angle: polygon(radius, angle, 3),
}


def draw(shape: str, size: int, random: np.random.Generator) -> Picture:
    """Draws one picture of `shape`, uint8 [size, size, 3]; everything else about it comes from `random`."""
    reach = random.uniform(0.26, 0.45)
    centre = random.uniform(reach, 1 - reach, 2)
    points = (np.arange(size * OVERSAMPLING) + 0.5) / (size * OVERSAMPLING)
    x, y = (points[None, :] - centre[0]) / reach, (points[:, None] - centre[1]) / reach
    inside = SHAPES[shape](np.hypot(x, y), np.arctan2(y, x) + random.uniform(0, 2 * np.pi))
    cover = inside.reshape(size, OVERSAMPLING, size, OVERSAMPLING).mean(axis=(1, 3))[:, :, None]
    ground, colour = two_colours(random)
    picture = ground * (1 - cover) + colour * cover + random.normal(0, 0.02, (size, size, 3))
    return np.asarray(np.clip(picture, 0, 1) * 255, np.uint8)


def two_colours(random: np.random.Generator) -> Floats:
    """Returns a ground and a colour that can be told from it, [2, 3] in [0, 1]."""
    while True:
        colours = random.uniform(0, 1, (2, 3))
        if np.abs(colours[0] - colours[1]).max() > LEAST_CONTRAST:
            return colours


def draw_many(count: int, size: int, random: np.random.Generator) -> tuple[Picture, npt.NDArray[np.int32]]:
    """Returns `count` pictures, uint8 [count, size, size, 3], and their classes in turn, int32 [count]."""
    names = list(SHAPES)
    classes = np.arange(count, dtype=np.int32) % len(names)
    return np.stack([draw(names[index], size, random) for index in classes]), classes
