"""TV-L1's warp and inner iterations as loops over rows, compiled for the CPU by Numba. Formulas: see `solver`.

Planes `[H + 2, margin + N * W + margin]`: a picture's row y is row y + 1, N pairs side by side; what is around them stays
zero. No pixel at a pair's right edge has a difference to the right, so its dual variable in x stays zero: pairs that touch
do not mix, and left of the first one lies a zero, too.

Rows are arguments of their own, sliced by the caller, because LLVM makes vector code of a loop over whole arrays and not of
one that starts in their middle (8 times the time).
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    def njit(**options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Numba's, as far as it is used here."""
        ...
else:
    from numba import njit

Array = NDArray[np.float32]

# What a GPU does, too: no operation waits for the order of the source. Not `nnan`, `ninf`: a stray NaN stays one.
FAST = {"contract", "reassoc", "arcp", "afn", "nsz"}
OPTIONS = {"fastmath": FAST, "error_model": "numpy", "nogil": True}


def compiled(loop: "Callable[..., None]") -> "Callable[..., None]":
    """A loop in machine code, which the next process finds on disk: beside this file, or in the user's cache folder.

    Compiling takes 5 CPU-seconds, in every worker that computes flow. Numba keeps code by processor, and this file's time.
    """
    try:
        return njit(cache=True, **OPTIONS)(loop)
    except RuntimeError:  # no folder can be written to: compiled by each process
        return njit(**OPTIONS)(loop)


@compiled
def pack(frame: Array, packed: Array) -> None:
    """A frame `[H, W]` to `[H, W, 4]`: brightness, its differences over two pixels in x and in y, replicated at the border,
    and a zero, which keeps a pixel's numbers in one piece of 16 bytes."""
    height, width = frame.shape
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            packed[y, x, 0] = frame[y, x]
            packed[y, x, 1] = frame[y, min(x + 1, width - 1)] - frame[y, max(x - 1, 0)]
            packed[y, x, 2] = frame[below, x] - frame[above, x]
            packed[y, x, 3] = np.float32(0)


@compiled
def linearise(
    first: Array,
    second: Array,
    u: Array,
    v: Array,
    constant: Array,
    g_x: Array,
    g_y: Array,
    inverse: Array,
    flat: float,
) -> None:
    """Warp the second frame of a pair by its flow and linearise the brightness difference around it.

    Args:
        first, second: the first frame `[H, W]`; the second as `pack` makes it `[H, W, 4]`.
        u, v: `[H, W]` flow.
        constant, g_x, g_y, inverse: `[H, W]`, written: rho(u) = constant + g . u, and 1 / |g|^2; zero where the flow leaves
            the picture.
        flat: added to |g|^2.
    """
    height, width = first.shape
    centre_x, centre_y = np.float32(0.5 * (width - 1)), np.float32(0.5 * (height - 1))
    zero, quarter = np.float32(0), np.float32(0.25)
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            # Coordinates count from the centre, as in `warp`, so that the same pixels of a still picture are inside.
            from_x, from_y = u[y, x] + (np.float32(x) - centre_x), v[y, x] + (np.float32(y) - centre_y)
            if not (abs(from_x) <= centre_x and abs(from_y) <= centre_y):
                constant[y, x] = g_x[y, x] = g_y[y, x] = inverse[y, x] = zero
                continue
            at_x, at_y = from_x + centre_x, from_y + centre_y
            left, upper = int(at_x), int(at_y)
            right, lower = min(left + 1, width - 1), min(upper + 1, height - 1)
            weight_x, weight_y = at_x - np.float32(left), at_y - np.float32(upper)
            row, under = second[upper], second[lower]
            top = row[left, 0] + weight_x * (row[right, 0] - row[left, 0])
            bottom = under[left, 0] + weight_x * (under[right, 0] - under[left, 0])
            top_x = row[left, 1] + weight_x * (row[right, 1] - row[left, 1])
            bottom_x = under[left, 1] + weight_x * (under[right, 1] - under[left, 1])
            top_y = row[left, 2] + weight_x * (row[right, 2] - row[left, 2])
            bottom_y = under[left, 2] + weight_x * (under[right, 2] - under[left, 2])
            own_x = first[y, min(x + 1, width - 1)] - first[y, max(x - 1, 0)]
            own_y = first[below, x] - first[above, x]
            # Differences span two pixels, and the gradient is the mean of both frames': a quarter of their sum.
            slope_x = quarter * (own_x + top_x + weight_y * (bottom_x - top_x))
            slope_y = quarter * (own_y + top_y + weight_y * (bottom_y - top_y))
            residual = top + weight_y * (bottom - top) - first[y, x]
            constant[y, x] = residual - slope_x * u[y, x] - slope_y * v[y, x]
            g_x[y, x] = slope_x
            g_y[y, x] = slope_y
            inverse[y, x] = np.float32(1) / (slope_x * slope_x + slope_y * slope_y + flat)


@compiled
def iterate(
    u: Array,
    v: Array,
    u_x: Array,
    u_y: Array,
    v_x: Array,
    v_y: Array,
    constant: Array,
    g_x: Array,
    g_y: Array,
    inverse: Array,
    step_x: Array,
    margin: int,
    theta: float,
    dual_step: float,
    threshold: float,
    iterations: int,
) -> None:
    """Run inner iterations on planes, in place: flow u, v; dual variable of u, of v; the data term of `linearise`.

    Iteration k works a row behind iteration k - 1: all pass over the planes as one wave, whose rows are in the cache.

    Args:
        step_x: `[row]`, tau / theta, zero at every pair's right edge and beyond the last one.
        margin: zeros on both sides of a row, at least one.
        theta, dual_step, threshold: theta, tau / theta, lambda theta.
        iterations: how many.
    """
    height, end = u.shape[0] - 2, u.shape[1] - margin
    for front in range(height + iterations):
        for iteration in range(min(iterations, front + 1)):
            r = front - iteration + 1  # the row whose flow is next; that above it gets its dual variable
            if r > height + 1:
                continue
            step_y = np.float32(dual_step) if 1 < r <= height else np.float32(0)
            _advance(
                u[r, margin:end],
                v[r, margin:end],
                constant[r, margin:end],
                g_x[r, margin:end],
                g_y[r, margin:end],
                inverse[r, margin:end],
                u_x[r, margin:end],
                u_x[r, margin - 1 : end - 1],
                u_y[r, margin:end],
                v_x[r, margin:end],
                v_x[r, margin - 1 : end - 1],
                v_y[r, margin:end],
                u[r - 1, margin:end],
                u[r - 1, margin + 1 : end + 1],
                v[r - 1, margin:end],
                v[r - 1, margin + 1 : end + 1],
                u_x[r - 1, margin:end],
                u_y[r - 1, margin:end],
                v_x[r - 1, margin:end],
                v_y[r - 1, margin:end],
                step_x[margin:end],
                step_y,
                theta,
                threshold,
            )


@compiled
def _advance(
    u: Array,
    v: Array,
    constant: Array,
    g_x: Array,
    g_y: Array,
    inverse: Array,
    u_x: Array,
    u_x_left: Array,
    u_y: Array,
    v_x: Array,
    v_x_left: Array,
    v_y: Array,
    above_u: Array,
    above_u_right: Array,
    above_v: Array,
    above_v_right: Array,
    above_u_x: Array,
    above_u_y: Array,
    above_v_x: Array,
    above_v_y: Array,
    step_x: Array,
    step_y: float,
    theta: float,
    threshold: float,
) -> None:
    """The step of a row's flow, and of the dual variable of the row above it, all of whose neighbours have made theirs."""
    one = np.float32(1)
    for x in range(u.shape[0]):
        old_u, old_v, p, q = u[x], v[x], above_u_y[x], above_v_y[x]
        step = (constant[x] + g_x[x] * old_u + g_y[x] * old_v) * inverse[x]
        step = min(max(step, -threshold), threshold)
        new_u = old_u - step * g_x[x] + theta * (u_x[x] - u_x_left[x] + u_y[x] - p)
        new_v = old_v - step * g_y[x] + theta * (v_x[x] - v_x_left[x] + v_y[x] - q)
        u[x] = new_u
        v[x] = new_v
        d_x, d_y = step_x[x] * (above_u_right[x] - above_u[x]), step_y * (new_u - above_u[x])
        shrink = one / (one + np.sqrt(d_x * d_x + d_y * d_y))
        above_u_x[x] = (above_u_x[x] + d_x) * shrink
        above_u_y[x] = (p + d_y) * shrink
        d_x, d_y = step_x[x] * (above_v_right[x] - above_v[x]), step_y * (new_v - above_v[x])
        shrink = one / (one + np.sqrt(d_x * d_x + d_y * d_y))
        above_v_x[x] = (above_v_x[x] + d_x) * shrink
        above_v_y[x] = (q + d_y) * shrink
