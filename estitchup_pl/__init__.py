"""Calibrated classifiers on precomputed multimodal embeddings (E-Stitchup for PyTorch Lightning)."""

__version__ = "0.1.0"
