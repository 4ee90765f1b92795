"""Public weight files in, our checkpoints out: what `python -m wagi.convert` is made of."""
