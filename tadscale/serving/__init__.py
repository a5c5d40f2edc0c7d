"""Detection with an exported model: ring 1 and decoding, nothing of the training stack.

The registered model carries this package (and what it imports) as its code, so its consumer needs no tadscale installed.
"""

from tadscale.serving.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
