"""Pictures that keep their shape: scaled until they cover a window's picture, and cut to it."""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from tadscale.data.container import MAX_PIXELS, UndecodableVideo


class Crop(NamedTuple):
    """What of a picture is kept, its pixels as square as on a screen."""

    zoom: float = 1.0
    """How many times larger a picture is scaled than it need be to cover what is asked for; 1 or more."""
    y: float = 0.5
    """Where it is cut: 0 at the top, 1 at the bottom."""
    x: float = 0.5
    """0 at the left, 1 at the right."""

    def scaled(self, shape: tuple[float, float], size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that a picture is scaled to before it is cut.

        Args:
            shape: height and width as displayed, in any unit.
            size: what is cut out of it, pixels.

        Raises:
            UndecodableVideo: the picture is so long and narrow that its ends would be millions of pixels apart.
        """
        scale = self.zoom * max(size[0] / shape[0], size[1] / shape[1])
        height, width = (max(side, round(scale * whole)) for side, whole in zip(size, shape, strict=True))
        if height * width > MAX_PIXELS:
            raise UndecodableVideo(f"pictures of {shape[1]:.0f} x {shape[0]:.0f} (width x height) cannot be cropped")
        return height, width

    def cut(self, picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        """`[H', W', 3]`, scaled, to `[H, W, 3]`."""
        y, x = (
            round(at * (whole - side))
            for at, whole, side in zip((self.y, self.x), picture.shape[:2], size, strict=True)
        )
        return picture[y : y + size[0], x : x + size[1]]
