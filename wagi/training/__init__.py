"""The training loop and its three stages: generator, encoder, inversion."""
