"""TV-L1 optical flow: one iteration, solved in torch, in loops that Numba compiles, and in Triton kernels."""
