"""Pictures of a trained agent at work: what it sees, what it wants to do, and what it has got."""

import base64
import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.envs.pictures import enlarged

_PANEL = 84  # height in pixels
_INK, _PAPER, _CHOSEN, _OTHER = (40, 40, 40), (255, 255, 255), (214, 90, 49), (150, 170, 200)


class Moment(NamedTuple):
    """One step of an agent."""

    picture: np.ndarray  # uint8 [H, W, 3], of the environment before the action
    bars: np.ndarray  # float [A]: probabilities of discrete actions, or continuous actions
    chosen: tuple[int, ...]  # the numbers of discrete actions among them; empty for continuous ones
    value: float  # of the state, as the agent estimates it; NaN if it does not
    episode_return: float  # until now
    length: int  # steps of the episode until now


class Recording(NamedTuple):
    """What `watch` returns. A notebook shows it."""

    frames: np.ndarray  # uint8 [T, H, W, 3]
    returns: list[float]  # of the episodes that ended
    fps: int

    def save(self, path: str | Path) -> Path:
        """Write it to a file, which must not be there: a GIF, or an MP4 (extra ``watch``).

        Raises:
            InputError: for another suffix, or a file that is there, or if the package for MP4 is not installed.
        """
        path = Path(path)
        check_output(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gif":
            path.write_bytes(self._gif())
        else:
            _write_mp4(path, self.frames, self.fps)
        return path

    def _gif(self) -> bytes:
        from PIL import Image

        images = [Image.fromarray(frame).quantize(64, dither=Image.Dither.NONE) for frame in self.frames]
        file = io.BytesIO()
        duration = max(20, round(1000 / self.fps))  # browsers slow down what is faster
        images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0, optimize=False)
        return file.getvalue()

    def _repr_html_(self) -> str:
        text = base64.b64encode(self._gif()).decode()
        return f'<img src="data:image/gif;base64,{text}" alt="the agent at work">'


def check_output(path: Path) -> None:
    """Check that a recording can be written there.

    Raises:
        InputError: naming the argument.
    """
    if path.suffix not in (".gif", ".mp4"):
        reject("out", str(path), "a path that ends with .gif or .mp4")
    if path.exists():
        reject("out", str(path), "a file that is not there yet")
    if path.suffix == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError:
            reject("out", str(path), "a GIF, or pip install 'purejaxrl-a3c[watch]'")


def _write_mp4(path: Path, frames: np.ndarray, fps: int) -> None:
    import imageio_ffmpeg

    height, width = (side + side % 2 for side in frames.shape[1:3])  # the codec wants even numbers
    padded = np.zeros((len(frames), height, width, 3), np.uint8)
    padded[:, : frames.shape[1], : frames.shape[2]] = frames
    unfinished = path.with_name(f"{path.stem}.unfinished.mp4")
    writer = imageio_ffmpeg.write_frames(str(unfinished), (width, height), fps=fps, macro_block_size=2)
    with contextlib.closing(writer):
        writer.send(None)
        for frame in padded:
            writer.send(np.ascontiguousarray(frame))
    unfinished.rename(path)


def compose(moments: Sequence[Moment]) -> np.ndarray:
    """Frames uint8 ``[T, H, W, 3]``: each picture, and under it the action, the value and the return."""
    pictures = [enlarged(moment.picture) for moment in moments]
    return np.stack([np.concatenate([x, _panel(y, x.shape[1])]) for x, y in zip(pictures, moments, strict=True)])


def _panel(moment: Moment, width: int) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (width, _PANEL), _PAPER)
    drawing, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    value = "" if np.isnan(moment.value) else f"value {moment.value:.2f}   "
    drawing.text((8, _PANEL - 20), f"{value}return {moment.episode_return:g}   step {moment.length}", _INK, font)
    top, bottom = 8, _PANEL - (36 if moment.chosen else 26)
    left, number = 8, len(moment.bars)
    each = (width - 2 * left) / max(1, number)
    if not moment.chosen:
        drawing.line((left, (top + bottom) / 2, width - left, (top + bottom) / 2), _OTHER)
    for i, height in enumerate(np.nan_to_num(moment.bars)):
        x0 = left + i * each + 1
        x1 = max(x0, left + (i + 1) * each - 1)
        if not moment.chosen:  # a continuous action, above or below the middle
            middle = (top + bottom) / 2
            tip = middle - np.clip(height, -1, 1) * (bottom - top) / 2
            box: Any = (x0, min(tip, middle), x1, max(tip, middle))
        else:
            box = (x0, bottom - height * (bottom - top), x1, bottom)
        drawing.rectangle(box, _CHOSEN if i in moment.chosen or not moment.chosen else _OTHER)
        if moment.chosen and each >= 10:
            drawing.text(((x0 + x1) / 2, bottom + 1), str(i), _INK, font, anchor="ma")
    return np.asarray(image)
