"""Settings of TV-L1 optical flow, and what tells its flow from another's."""

from pydantic import Field

from tadscale.config import Config

REVISION = 1  # to be raised when a change to the code changes the flow: it is part of the fingerprint


class Tvl1Config(Config):
    """Settings of TV-L1 optical flow.

    tau, data_weight and theta default to the published values (IPOL 2013, and OpenCV's); levels, warps and iterations to
    our choice. For pairs of 224 px on one core, by benchmarks/flow.py, warps x iterations: 2 x 10 takes 4 ms and errs by
    .038 px in the mean, 3 x 10 6 ms and .032 px, 3 x 20 8 ms and .029 px; OpenCV's DualTVL1 551 ms and .046 px on those
    scenes that it can follow. Fewer than 3 x 20 leave noise in the flow of decoded video that DualTVL1 smooths away.
    """

    levels: int = Field(default=5, ge=1, le=10)
    """Levels of the pyramid, each half the size of the one before, as far as the frames' size allows (no side below 8 px).
    Five follow a translation of 32 px at 224 px, and of 16 px at 112 px."""
    warps: int = Field(default=3, ge=1)
    """Times a level warps the second frame and linearises the data term anew."""
    iterations: int = Field(default=20, ge=1)
    """Inner iterations of each warp: a fixed number, so that nothing waits for a stopping test on the device."""
    tau: float = Field(default=0.25, gt=0, le=0.25)
    """Time step of the dual projection, which is stable up to 1/4 in practice."""
    data_weight: float = Field(default=0.15, gt=0)
    """lambda: weight of the data term against total variation, for grey levels in [0, 255]. Smaller is smoother."""
    theta: float = Field(default=0.3, gt=0)
    """Tightness of the coupling between the two halves of the problem. Smaller is tighter, and converges more slowly."""

    def fingerprint(self) -> str:
        """Method, revision and every setting."""
        settings = ", ".join(f"{name}={value}" for name, value in self)
        return f"tvl1/{REVISION}({settings})"
