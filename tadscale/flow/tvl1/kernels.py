"""TV-L1 in two Triton kernels: the data term of a warp, and many inner iterations in one launch.

Formulas: see `solver`. What costs time on a GPU is memory, then neighbours. Memory: a program loads a tile of one pair
with a border as wide as the iterations of the launch, keeps it in registers through all of them, and writes what lies inside
the border; the border goes bad by a pixel an iteration, and is for neighbouring programs to write. Neighbours: every thread
holds strips of `STRIP` pixels of a column, so that of eight neighbours above or below seven are in registers of its own; a
row lies along a warp, so that those on the left and right are shuffles. Triton has no strips: here they are tuples of
tensors `[TILE_Y / STRIP, TILE_X]`, of which entry i holds row i of every strip.

For compute capability 9.0 an iteration of a pixel compiles to 51 instructions: 37 of arithmetic, 4 roots, 2 comparisons, 4.5
shuffles, 2 accesses to shared memory. With the tile as one tensor, and divisions as Triton writes them, it was 86.
"""

# ruff: noqa: RUF005  (Triton knows `tuple + tuple`, and no star)

from __future__ import annotations

try:
    import triton.language as tl
    from triton import jit
except ImportError:  # where there is no Triton nothing below is called, but every module of the package can be imported

    def jit(function):  # type: ignore[no-untyped-def]
        """Stands in for Triton's."""
        return function


@jit
def linearise(
    first: tl.tensor,
    second: tl.tensor,
    flow: tl.tensor,
    flow_plane: tl.tensor,
    data: tl.tensor,
    plane: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    TILE_Y: tl.constexpr,
    TILE_X: tl.constexpr,
) -> None:
    """Warp the second frame by the flow and linearise the brightness difference around it.

    Frames are `[N, H, W]`; the flow's planes `[N, H, W]` lie `flow_plane` apart. Writes to `data` `[3, N, H, W]`, whose
    planes lie `plane` apart: constant, g_x, g_y of rho(u) = constant + g . u, all zero where the flow leaves the picture.
    """
    x = tl.program_id(0) * TILE_X + tl.arange(0, TILE_X)[None, :]
    y = tl.program_id(1) * TILE_Y + tl.arange(0, TILE_Y)[:, None]
    picture = tl.program_id(2) * height * width  # offset of the pair's frames
    exists = (x < width) & (y < height)
    at = picture + y * width + x  # [TILE_Y, TILE_X]
    u = tl.load(flow + at, exists, 0.0)
    v = tl.load(flow + flow_plane + at, exists, 0.0)

    # Coordinates count from the centre, as in `warp`, so that the same pixels of a still picture are inside.
    from_centre_x = u + (x - (width - 1) * 0.5)
    from_centre_y = v + (y - (height - 1) * 0.5)
    inside = (tl.abs(from_centre_x) <= (width - 1) * 0.5) & (tl.abs(from_centre_y) <= (height - 1) * 0.5) & exists
    left, right, weight_x = _between(from_centre_x, width)
    upper, lower, weight_y = _between(from_centre_y, height)

    top = second + picture + tl.maximum(upper - 1, 0) * width
    bottom = second + picture + tl.minimum(upper + 2, height - 1) * width
    brightness_0, slope_0 = _sample(second + picture + upper * width, left, right, weight_x, width, inside)
    brightness_1, slope_1 = _sample(second + picture + lower * width, left, right, weight_x, width, inside)
    above = _mix(tl.load(top + left, inside, 0.0), tl.load(top + right, inside, 0.0), weight_x)
    below = _mix(tl.load(bottom + left, inside, 0.0), tl.load(bottom + right, inside, 0.0), weight_x)

    own = tl.load(first + at, inside, 0.0)
    row = first + picture + y * width
    own_x = tl.load(row + tl.minimum(x + 1, width - 1), inside, 0.0) - tl.load(row + tl.maximum(x - 1, 0), inside, 0.0)
    column = first + picture + x
    own_y = tl.load(column + tl.minimum(y + 1, height - 1) * width, inside, 0.0)
    own_y -= tl.load(column + tl.maximum(y - 1, 0) * width, inside, 0.0)

    # Differences span two pixels, and the gradient is the mean of both frames': a quarter of their sum.
    g_x = 0.25 * (own_x + _mix(slope_0, slope_1, weight_y))
    g_y = 0.25 * (own_y + _mix(brightness_1 - above, below - brightness_0, weight_y))
    residual = _mix(brightness_0, brightness_1, weight_y) - own
    tl.store(data + at, residual - (g_x * u + g_y * v), exists)
    tl.store(data + plane + at, g_x, exists)
    tl.store(data + 2 * plane + at, g_y, exists)


@jit
def _between(from_centre: tl.tensor, size: tl.tensor) -> tl.tuple:
    """Both pixels that a coordinate lies between, clamped to the picture, and the second one's weight."""
    position = tl.minimum(tl.maximum(from_centre + (size - 1) * 0.5, 0.0), size - 1.0)
    low = tl.floor(position)
    index = low.to(tl.int32)
    return index, tl.minimum(index + 1, size - 1), position - low


@jit
def _mix(first: tl.tensor, second: tl.tensor, weight: tl.tensor) -> tl.tensor:
    return first + weight * (second - first)


@jit
def _sample(
    row: tl.tensor, left: tl.tensor, right: tl.tensor, weight: tl.tensor, width: tl.tensor, mask: tl.tensor
) -> tl.tuple:
    """A row of pixels, and its differences over two pixels, between two columns."""
    at_left, at_right = tl.load(row + left, mask, 0.0), tl.load(row + right, mask, 0.0)
    before = tl.load(row + tl.maximum(left - 1, 0), mask, 0.0)
    after = tl.load(row + tl.minimum(left + 2, width - 1), mask, 0.0)
    return _mix(at_left, at_right, weight), _mix(at_right - before, after - at_left, weight)


@jit
def iterate(
    flow_in: tl.tensor,
    flow_in_plane: tl.tensor,
    dual_in: tl.tensor,
    data: tl.tensor,
    flow_out: tl.tensor,
    flow_out_plane: tl.tensor,
    dual_out: tl.tensor,
    plane: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    theta: tl.tensor,
    dual_step: tl.tensor,
    threshold: tl.tensor,
    TILE_Y: tl.constexpr,
    TILE_X: tl.constexpr,
    STRIP: tl.constexpr,
    ITERATIONS: tl.constexpr,
    FLAT_GRADIENT: tl.constexpr,
) -> None:
    """Run `ITERATIONS` inner iterations on every tile. No buffer may be both read and written.

    Planes `[N, H, W]`: flow u, v; dual p_x, p_y of u, then of v; data as `linearise` wrote it. Neighbouring tiles overlap by
    twice `ITERATIONS`. `dual_step` is tau / theta, `threshold` is lambda theta.
    """
    tile_x, tile_y = tl.program_id(0), tl.program_id(1)
    strip = tl.arange(0, TILE_Y // STRIP)[:, None]
    column = tl.arange(0, TILE_X)[None, :]
    x = tile_x * (TILE_X - 2 * ITERATIONS) + column
    top = tile_y * (TILE_Y - 2 * ITERATIONS)
    # Where the tile ends with the picture there is no border to throw away.
    first_column = tl.where(tile_x == 0, 0, ITERATIONS)
    end_column = TILE_X - tl.where(tile_x == tl.num_programs(0) - 1, 0, ITERATIONS)
    first_row = tl.where(tile_y == 0, 0, ITERATIONS)
    end_row = TILE_Y - tl.where(tile_y == tl.num_programs(1) - 1, 0, ITERATIONS)
    keep_column = (x < width) & (column >= first_column) & (column < end_column)
    column_at = tl.program_id(2) * height * width + x
    at: tl.tuple = ()
    exists: tl.tuple = ()
    keep: tl.tuple = ()
    step_y: tl.tuple = ()
    for i in tl.static_range(STRIP):
        row = strip * STRIP + i
        y = top + row
        at = at + (column_at + y * width,)
        exists = exists + ((x < width) & (y < height),)
        keep = keep + (keep_column & (y < height) & (row >= first_row) & (row < end_row),)
        step_y = step_y + (tl.where(y < height - 1, dual_step, 0.0),)  # differences over the edge are zero
    step_x = tl.where(x < width - 1, dual_step, 0.0)

    u, v = _load(flow_in, at, exists), _load(flow_in + flow_in_plane, at, exists)
    u_x, u_y = _load(dual_in, at, exists), _load(dual_in + plane, at, exists)
    v_x, v_y = _load(dual_in + 2 * plane, at, exists), _load(dual_in + 3 * plane, at, exists)
    constant = _load(data, at, exists)
    g_x, g_y = _load(data + plane, at, exists), _load(data + 2 * plane, at, exists)
    inverse: tl.tuple = ()
    for i in tl.static_range(STRIP):
        inverse = inverse + (1.0 / (g_x[i] * g_x[i] + g_y[i] * g_y[i] + FLAT_GRADIENT),)

    # Neighbours wrap around within the tile. That spoils the border alone; and where the tile's edge is the picture's, the
    # dual variable on the right and at the bottom is zero, and that on the left and at the top is multiplied by zero.
    right = tl.broadcast_to((column + 1) % TILE_X, [TILE_Y // STRIP, TILE_X])
    left = tl.broadcast_to((column + TILE_X - 1) % TILE_X, [TILE_Y // STRIP, TILE_X])
    below = tl.broadcast_to((strip + 1) % (TILE_Y // STRIP), [TILE_Y // STRIP, TILE_X])
    above = tl.broadcast_to((strip + TILE_Y // STRIP - 1) % (TILE_Y // STRIP), [TILE_Y // STRIP, TILE_X])
    has_left = tl.where(x > 0, 1.0, 0.0)
    has_above = tl.where(top + strip > 0, 1.0, 0.0)
    for _ in range(ITERATIONS):
        u_divergence = _divergence(u_x, u_y, left, above, has_left, has_above)
        v_divergence = _divergence(v_x, v_y, left, above, has_left, has_above)
        u, v = _primal(u, v, constant, g_x, g_y, inverse, u_divergence, v_divergence, theta, threshold)
        u_x, u_y = _dual(u, u_x, u_y, right, below, step_x, step_y)
        v_x, v_y = _dual(v, v_x, v_y, right, below, step_x, step_y)

    _store(flow_out, at, u, keep)
    _store(flow_out + flow_out_plane, at, v, keep)
    _store(dual_out, at, u_x, keep)
    _store(dual_out + plane, at, u_y, keep)
    _store(dual_out + 2 * plane, at, v_x, keep)
    _store(dual_out + 3 * plane, at, v_y, keep)


@jit
def _load(plane: tl.tensor, at: tl.tuple, mask: tl.tuple) -> tl.tuple:
    out: tl.tuple = ()
    for i in tl.static_range(len(at)):
        out = out + (tl.load(plane + at[i], mask[i], 0.0).to(tl.float32),)
    return out


@jit
def _store(plane: tl.tensor, at: tl.tuple, rows: tl.tuple, mask: tl.tuple) -> None:
    for i in tl.static_range(len(at)):
        tl.store(plane + at[i], rows[i], mask[i])


@jit
def _divergence(
    p_x: tl.tuple, p_y: tl.tuple, left: tl.tensor, above: tl.tensor, has_left: tl.tensor, has_above: tl.tensor
) -> tl.tuple:
    out: tl.tuple = ()
    for i in tl.static_range(len(p_y)):
        across = p_x[i] - has_left * tl.gather(p_x[i], left, 1)
        upper = has_above * tl.gather(p_y[len(p_y) - 1], above, 0) if i == 0 else p_y[i - 1]
        out = out + (across + (p_y[i] - upper),)
    return out


@jit
def _primal(
    u: tl.tuple,
    v: tl.tuple,
    constant: tl.tuple,
    g_x: tl.tuple,
    g_y: tl.tuple,
    inverse: tl.tuple,
    u_divergence: tl.tuple,
    v_divergence: tl.tuple,
    theta: tl.tensor,
    threshold: tl.tensor,
) -> tl.tuple:
    """Thresholding of the data term, and the step of the flow."""
    new_u: tl.tuple = ()
    new_v: tl.tuple = ()
    for i in tl.static_range(len(u)):
        step = (constant[i] + g_x[i] * u[i] + g_y[i] * v[i]) * inverse[i]
        step = tl.minimum(tl.maximum(step, -threshold), threshold)
        new_u = new_u + (u[i] - step * g_x[i] + theta * u_divergence[i],)
        new_v = new_v + (v[i] - step * g_y[i] + theta * v_divergence[i],)
    return new_u, new_v


@jit
def _dual(
    u: tl.tuple, p_x: tl.tuple, p_y: tl.tuple, right: tl.tensor, below: tl.tensor, step_x: tl.tensor, step_y: tl.tuple
) -> tl.tuple:
    """The step of one channel's dual variable, and its projection."""
    new_x: tl.tuple = ()
    new_y: tl.tuple = ()
    for i in tl.static_range(len(u)):
        lower = tl.gather(u[0], below, 0) if i == len(u) - 1 else u[i + 1]
        d_x = step_x * (tl.gather(u[i], right, 1) - u[i])
        d_y = step_y[i] * (lower - u[i])
        # 1 / n as rsqrt(n)^2: two instructions, where a division is eight.
        root = tl.rsqrt(1.0 + tl.sqrt(d_x * d_x + d_y * d_y))
        new_x = new_x + ((p_x[i] + d_x) * (root * root),)
        new_y = new_y + ((p_y[i] + d_y) * (root * root),)
    return new_x, new_y
