"""Edits in latent space: counterfactual pairs, and directions found with them."""
