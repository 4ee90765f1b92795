"""WaGI: wavelet-based GAN inversion in PyTorch (model, training, evaluation)."""

__version__ = "0.1.0"
