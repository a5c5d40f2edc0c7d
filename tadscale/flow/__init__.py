"""Motion from frames: TV-L1 and DIS optical flow, fast and slow temporal gradients."""
