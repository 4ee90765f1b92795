"""Procedural portraits: a world rendered from known parameters, with true counterfactuals.

`sample(seed)` draws a `Portrait`, `edit(portrait, yaw=...)` changes parameters, `render(portrait, size)` is
the picture, `vector(portrait)` the standardised parameters, `attributes(portrait)` their readable form.
"""

from wagi.portraits.parameters import NUM_PARAMETERS, Portrait, attributes, edit, sample, vector
from wagi.portraits.scene import LABELS, render, render_regions

__all__ = [
    "LABELS",
    "NUM_PARAMETERS",
    "Portrait",
    "attributes",
    "edit",
    "render",
    "render_regions",
    "sample",
    "vector",
]
