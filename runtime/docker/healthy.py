"""The health of a Triton server with a model of to_triton.py: exit status 0 when it answers a tiny picture.

Triton says "ready" although a process of its Python models has died, and starts no other one (Triton 2.51):
only an inference shows it. `python healthy.py [MODEL [PORT]]`, wagi and 8000 unless named.
"""

import json
import sys
from urllib.request import urlopen

model, port = [*sys.argv[1:], *("wagi", "8000")[len(sys.argv) - 1 :]]
photo = {"name": "PHOTO", "datatype": "BYTES", "shape": [1, 1], "data": ["P3 1 1 255 99 99 99"]}  # a PPM
picture = {"name": "PICTURE", "parameters": {"binary_data": True}}
body = json.dumps({"inputs": [photo], "outputs": [picture]}).encode()
try:
    with urlopen(f"http://127.0.0.1:{port}/v2/models/{model}/infer", body, timeout=20) as answer:
        sys.exit(b"PNG" not in answer.read())
except OSError as error:
    sys.exit(f"{model}: {error}")
