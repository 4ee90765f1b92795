"""What this machine's CPU computes in."""

from importlib.util import find_spec

import pytest


def _bf16() -> bool:
    if not find_spec("openvino"):
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


HAS_BF16 = _bf16()
needs_bf16 = pytest.mark.skipif(
    not HAS_BF16, reason="OpenVINO is not installed, or finds no bf16 in this CPU (OPTIMIZATION_CAPABILITIES)"
)
