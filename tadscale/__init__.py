"""tadscale: distil optical-flow teachers into RGB-only temporal action detectors, at cluster scale."""

__version__ = "0.1.0"
