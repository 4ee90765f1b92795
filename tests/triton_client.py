"""Run by the Python of Triton's environment: what NVIDIA's own client library sees of a server or of files.

    python triton_client.py infer HTTP_PORT GRPC_PORT < [{"PHOTO": [hex], INPUT: [...]}, ...] > answers
    python triton_client.py parse FILE...           # config.pbtxt => one JSON object a line

Four clients at the same time, two over HTTP and two over gRPC, each with a connection of its own, send every
request each => [[picture in hex or "code: message" of each], ...].
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np

CLIENTS, TIMEOUT = 4, 60


def infer(http_port: str, grpc_port: str) -> None:
    requests = json.load(sys.stdin)
    ports = [http_port, grpc_port] * (CLIENTS // 2)
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda port: client(port, port == http_port, requests), ports))
    json.dump(answers, sys.stdout)


def client(port: str, over_http: bool, requests: list) -> list:
    from tritonclient import grpc, http
    from tritonclient.utils import InferenceServerException

    library = http if over_http else grpc
    wait = {"network_timeout": TIMEOUT} if over_http else {}
    connection = library.InferenceServerClient(f"127.0.0.1:{port}", **wait)
    answers = []
    for request in requests:
        inputs = [given(library, name, row) for name, row in request.items()]
        try:
            limit = {} if over_http else {"client_timeout": TIMEOUT}
            found = connection.infer("wagi", inputs, **limit)
            answers.append(found.as_numpy("PICTURE")[0, 0].hex())
        except InferenceServerException as error:
            answers.append(f"{error.status()}: {error.message()}")
    connection.close()
    return answers


def given(library: ModuleType, name: str, row: list) -> object:
    """An input [1, N]."""
    row = [bytes.fromhex(one) for one in row] if name == "PHOTO" else row
    words = isinstance(row[0], str | bytes)
    tensor = library.InferInput(name, [1, len(row)], "BYTES" if words else "FP32")
    tensor.set_data_from_numpy(np.array([row], np.object_ if words else np.float32))
    return tensor


def parse(*paths: str) -> None:
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    for path in paths:
        config = text_format.Parse(Path(path).read_text(), model_config_pb2.ModelConfig())
        print(json.dumps(json_format.MessageToDict(config, preserving_proto_field_name=True)))


if __name__ == "__main__":
    {"infer": infer, "parse": parse}[sys.argv[1]](*sys.argv[2:])
