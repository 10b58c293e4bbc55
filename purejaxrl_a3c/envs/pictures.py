"""Pictures of observations, for environments that have no pictures of their own, and of matplotlib's figures."""

import colorsys
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.envs.observations import split_mask

_LEAST_WIDTH = 240
"""Pixels; smaller pictures are enlarged by a whole factor."""


def draw_observations(observations: Sequence[Any]) -> Iterator[np.ndarray]:
    """A picture of each observation.

    An image of bytes with one or three channels is shown as it is. Of other images every channel has a colour, and of
    the channels that are not 0 the last is seen, as in MinAtar. A matrix is grey, and other observations are bars, over
    their range in all of ``observations``.

    Args:
        observations: of an environment, all of one shape. Of several arrays one is drawn: the largest of those with the
            most axes.

    Yields:
        uint8 ``[H, W, 3]``.
    """
    stacked = np.asarray([_largest(obs) for obs in observations])
    if stacked.ndim == 4 and stacked.dtype == np.uint8 and stacked.shape[-1] in (1, 3):
        yield from np.broadcast_to(stacked, (*stacked.shape[:-1], 3))
    elif stacked.ndim == 4:
        colours = palette(stacked.shape[-1])
        for obs in stacked:
            shown = np.zeros((*obs.shape[:2], 3), np.uint8)
            for channel, colour in enumerate(colours):
                shown[obs[..., channel] != 0] = colour
            yield shown
    else:
        numbers = stacked.reshape(len(stacked), -1).astype(np.float64)
        finite = np.where(np.isfinite(numbers), numbers, 0.0)
        low, high = finite.min(0), finite.max(0)
        if stacked.ndim == 3:  # one scale for a whole matrix
            low, high = low.min(), high.max()
        unit = (finite - low) / np.where(high > low, high - low, 1.0)
        for one in unit:
            if stacked.ndim == 3:
                grey = (255 * one.reshape(stacked.shape[1:])).astype(np.uint8)
                yield np.repeat(grey[..., None], 3, axis=-1)
            else:
                yield _bars(one)


def _largest(obs: Any) -> np.ndarray:
    arrays = [np.asarray(x) for x in jax.tree.leaves(split_mask(obs)[0])]
    return max(arrays, key=lambda x: (x.ndim, x.size))


def drawn_with_opengl(
    env_id: str, render: Callable[[Sequence[Any]], Iterator[np.ndarray]]
) -> Callable[[Sequence[Any]], Iterator[np.ndarray]]:
    """``render`` with an error that says what MuJoCo needs where it cannot draw."""

    def explained(states: Sequence[Any]) -> Iterator[np.ndarray]:
        try:
            return render(states)
        except Exception as error:  # without a screen there is one of several kinds
            return reject_undrawn(env_id, error)

    return explained


def without_screen() -> None:
    """Have pygame draw without a screen and a loudspeaker, of which it complains where there is none."""
    for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        os.environ.setdefault(name, "dummy")


def reject_undrawn(env_id: str, error: Exception) -> NoReturn:
    """Raise the error that says what drawing needs.

    Raises:
        InputError: always.
    """
    reason = " ".join(str(error).strip().splitlines()[:1])
    accepted = "an environment that can be drawn here; MuJoCo needs OpenGL and MUJOCO_GL=egl or osmesa"
    reject("env_id", env_id, f"{accepted}, and classic control the extra watch ({reason})")


def palette(number: int) -> np.ndarray:
    """Colours that differ, uint8 ``[number, 3]``."""
    hues = [colorsys.hsv_to_rgb(i * 0.61803 % 1, 0.55 + 0.25 * (i % 2), 0.95) for i in range(number)]
    return (255 * np.array(hues).reshape(number, 3)).astype(np.uint8)


def figure_picture(figure: Any) -> np.ndarray:
    """A figure of matplotlib as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def grid_picture(occupied: np.ndarray, marks: Sequence[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """A maze from above: walls dark, and coloured cells, each ``(row and column, colour)``."""
    picture = np.where(np.asarray(occupied)[..., None] > 0, 60, 240) * np.ones(3)
    for place, colour in marks:
        row, column = np.asarray(place).astype(int)
        picture[row, column] = colour
    return picture.astype(np.uint8)


def enlarged(picture: np.ndarray) -> np.ndarray:
    """The picture at least `_LEAST_WIDTH` pixels wide, each pixel a square."""
    factor = max(1, -(-_LEAST_WIDTH // picture.shape[1]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _bars(unit: np.ndarray, height: int = 100) -> np.ndarray:
    """Numbers in [0, 1] as bars side by side."""
    width = max(1, 320 // len(unit))
    rows = np.arange(height, 0, -1)[:, None] / height
    filled = np.repeat(rows <= np.maximum(unit, 0.02), width, axis=1)[..., None]
    return np.where(filled, np.array([70, 110, 180]), np.array([245, 245, 245])).astype(np.uint8)
