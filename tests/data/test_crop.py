"""Crops keep the shape of pictures: against resizing and cutting whole pictures by other means, wherever they are read."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from tadscale.data.augment import NO_AUGMENT, Augment, AugmentDraw
from tadscale.data.container import UndecodableVideo
from tadscale.data.crop import Crop
from tadscale.data.decode import decode_frames
from tadscale.data.encode import encode_h264
from tadscale.data.features import FeatureRows
from tadscale.data.windows import WindowConfig, cut_window
from tests.data.test_decode import turned
from tests.data.test_windows import row

# Grey levels, of single pixels and on average. FFmpeg's scaler is up to 2 off whatever it does, and a cut at whole pixels is
# off by up to half a pixel, of ramps that rise by at most 5 a pixel. What is stretched, or cut elsewhere, is off by tens.
TOLERANCE, BIAS = 8.0, 3.5


def ramps(height: int, width: int) -> NDArray[np.uint8]:
    """One picture `[H, W, 3]` whose red rises downwards and whose green rises to the right."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 160 * y / height, 40 + 160 * x / width, np.full(y.shape, 90)], -1).astype(np.uint8)


def video_of(picture: NDArray[np.uint8], pixel_aspect: Fraction | None = None) -> bytes:
    """Half a second of it."""
    if pixel_aspect is None:
        return encode_h264(np.repeat(picture[None], 5, axis=0), 10, crf=2)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=10, options={"crf": "2"})
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def whole(video: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The first picture, at its own size."""
    return decode_frames(video, np.zeros(1), shape[:2])[0]


def slow_crop(
    picture: NDArray[np.uint8],
    size: tuple[int, int],
    aspect: float = 1.0,
    zoom: float = 1.0,
    at: tuple[float, float] = (0.5, 0.5),
) -> NDArray[np.float64]:
    """Pixel by pixel: where it lies on a display, and what the picture shows there, interpolated between four pixels."""
    height, width = picture.shape[:2]
    scale = zoom * max(size[0] / height, size[1] / (width * aspect))
    cut = np.zeros((*size, 3))
    for row_ in range(size[0]):
        for column in range(size[1]):
            y = (row_ + 0.5 + at[0] * (height * scale - size[0])) / scale - 0.5
            x = (column + 0.5 + at[1] * (width * aspect * scale - size[1])) / (scale * aspect) - 0.5
            cut[row_, column] = _between(picture, min(max(y, 0), height - 1), min(max(x, 0), width - 1))
    return cut


def _between(picture: NDArray[np.uint8], y: float, x: float) -> NDArray[np.float64]:
    y0, x0 = min(int(y), picture.shape[0] - 2), min(int(x), picture.shape[1] - 2)
    four = picture[y0 : y0 + 2, x0 : x0 + 2].astype(float)
    down, right = y - y0, x - x0
    return (four[0] * (1 - down) + four[1] * down)[0] * (1 - right) + (four[0] * (1 - down) + four[1] * down)[1] * right


def agree(frame: NDArray[np.uint8], wanted: NDArray[np.float64]) -> bool:
    """No pixel far away, and no colour shifted."""
    error = frame - wanted
    return bool(np.abs(error).max() < TOLERANCE and (np.abs(error.mean((0, 1))) < BIAS).all())


@pytest.mark.parametrize("shape", [(64, 128), (128, 64), (90, 118), (96, 96), (32, 200)])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 40)])
def test_pictures_of_any_shape_are_scaled_until_they_cover_and_cut_in_the_middle(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    video = video_of(ramps(*shape))
    frames = decode_frames(video, np.arange(5) / 10, size, Crop())
    assert frames.shape == (5, *size, 3)
    assert agree(frames[0], slow_crop(whole(video, shape), size))


def test_what_is_cut_is_not_stretched() -> None:
    """A disc stays one."""
    y, x = np.mgrid[0:120, 0:200]
    disc = np.where((y - 60) ** 2 + (x - 100) ** 2 < 40**2, 255, 0).astype(np.uint8)
    [frame] = decode_frames(video_of(np.repeat(disc[..., None], 3, axis=-1)), np.zeros(1), (60, 60), Crop())
    bright = frame[..., 0] > 128
    assert abs(int(bright.any(0).sum()) - 40) <= 1
    assert abs(int(bright.any(1).sum()) - 40) <= 1


@pytest.mark.parametrize(("matrix", "quarter_turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_a_turned_video_is_cut_as_it_is_displayed(matrix: tuple[int, int, int, int], quarter_turns: int) -> None:
    video = turned(video_of(ramps(64, 128)), matrix)
    [frame] = decode_frames(video, np.zeros(1), (40, 24), Crop())
    assert agree(frame, slow_crop(whole(video, (64, 128) if quarter_turns == 2 else (128, 64)), (40, 24)))


@pytest.mark.parametrize("pixel_aspect", [Fraction(16, 15), Fraction(2), Fraction(1, 2)])
def test_an_anamorphic_video_is_cut_as_it_is_displayed(pixel_aspect: Fraction) -> None:
    video = video_of(ramps(80, 96), pixel_aspect)
    [frame] = decode_frames(video, np.zeros(1), (40, 40), Crop())
    assert agree(frame, slow_crop(whole(video, (80, 96)), (40, 40), float(pixel_aspect)))


CONFIG = WindowConfig(frames=4, stride_frames=4, fps=10, height=32, width=32, resize="crop")


@pytest.mark.parametrize(("y", "x"), [(0.0, 0.0), (1.0, 1.0), (0.25, 0.75)])
def test_a_random_crop_lies_anywhere_in_the_whole_picture(y: float, x: float) -> None:
    video, draw = video_of(ramps(64, 128)), AugmentDraw(0.5, y, x, False)
    frames = cut_window(video, row("v", 0.5), 0, 4, CONFIG, draw).frames
    wanted = slow_crop(whole(video, (64, 128)), (32, 32), zoom=0.5**-0.5, at=(y, x))
    assert agree(frames[0], wanted)
    flipped = cut_window(video, row("v", 0.5), 0, 4, CONFIG, draw._replace(flip=True)).frames
    assert np.array_equal(flipped, frames[:, :, ::-1])


def test_without_a_random_crop_the_middle_is_cut_whatever_is_drawn() -> None:
    assert CONFIG.crop(NO_AUGMENT) == CONFIG.crop(Augment(flip_probability=0.5).draw(3)) == Crop()
    assert WindowConfig().crop(AugmentDraw(0.5, 0.1, 0.1, False)) is None


def test_pictures_too_narrow_to_be_cropped_are_bad_data() -> None:
    with pytest.raises(UndecodableVideo, match="cannot be cropped"):
        Crop().scaled((2, 8000), (224, 224))


def test_settings_say_so_and_those_of_before_keep_their_digest() -> None:
    assert WindowConfig(resize="crop").fingerprint() != WindowConfig().fingerprint()
    assert WindowConfig().fingerprint() == "8438279560bac3454b04bf9803e8e3bcda4c13a4fdbe81bc472d3bc4df76640a"
    rows = FeatureRows(channels=4, stride=4, offset=8, video_fps=30)
    with pytest.raises(ValidationError, match=r"window\.resize"):
        WindowConfig(features=rows, fps=7.5, resize="crop")
