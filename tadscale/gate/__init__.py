"""Whether a challenger becomes champion: the evidence that two detectors' detections of the same videos give, and the
policies that decide on it. Pure numpy and scipy."""
