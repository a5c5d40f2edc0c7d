"""Trained models as they are packaged, registered and pulled."""
