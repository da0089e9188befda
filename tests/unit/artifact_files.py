"""Files of other formats, made byte by byte for the tests of what recognises them."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Mapping


def varint(number: int) -> bytes:
    """Returns a number of seven bits per byte."""
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def field(number: int, content: bytes | int) -> bytes:
    """Returns a field of a protobuf message."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def node(name: str, op: str, *inputs: str) -> bytes:
    """Returns a node of a GraphDef, with an attribute."""
    fields = field(1, name.encode()) + field(2, op.encode())
    fields += b"".join(field(3, one.encode()) for one in inputs)
    return field(1, fields + field(5, field(1, b"dtype") + field(2, b"\x30\1")))


GRAPH = (
    node("x", "Placeholder") + node("w", "Const") + node("y", "MatMul", "x", "w:0") + field(4, field(1, 27))
)
META = field(1, field(1, b"v") + field(5, b"2.21")) + field(2, GRAPH)
SAVED_MODEL = field(1, 1) + field(2, META)
ONNX = field(1, 8) + field(2, b"tests") + field(7, field(2, b"graph")) + field(8, field(2, 17))
CORE_ML = field(1, 5) + field(2, field(1, b"x")) + field(500, b"network")


def zipped(files: Mapping[str, bytes | str]) -> bytes:
    """Returns a zip file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    """Returns a tar file, compressed if ``mode`` says so."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


KERAS = zipped(
    {"metadata.json": '{"keras_version": "3.9.0"}', "config.json": "{}", "model.weights.h5": b"\x89HDF"}
)


def safetensors(length: int = 8) -> bytes:
    """Returns weights whose data have this length, of the 8 bytes that the header states."""
    header = {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(length)


def pickled(module: str, name: str, protocol: int = 4) -> bytes:
    """Returns a pickle that would call ``module.name``."""
    if protocol < 4:
        return b"\x80" + bytes([protocol]) + f"c{module}\n{name}\n".encode() + b"q\0)R."
    texts = b"".join(b"\x8c" + bytes([len(one)]) + one.encode() + b"\x94" for one in (module, name))
    return b"\x80\4\x95" + struct.pack("<Q", len(texts) + 5) + texts + b"\x93\x94)R."


STATE = pickle.dumps({"epoch": 3, "values": [1.0, 2.0]}, protocol=4)


def torch_zip(data: bytes) -> bytes:
    """Returns a file of PyTorch whose pickle is ``data``."""
    return zipped({"archive/data.pkl": data, "archive/version": "3", "archive/data/0": bytes(8)})


TORCH_SCRIPT = zipped(
    {"m/data.pkl": b"", "m/constants.pkl": b"", "m/code/__torch__/m.py": b"", "m/version": b"3"}
)
WEIGHTS_PICKLE = (
    b"\x80\2ctorch._utils\n_rebuild_tensor_v2\nq\0ctorch\nFloatStorage\nq\1ccollections\nOrderedDict\nq\2)R."
)
TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\2M\xe9\3." + WEIGHTS_PICKLE
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 14000000\n"
TFLITE = b"\x1c\0\0\0TFL3" + bytes(64)
OPENVINO = b'<?xml version="1.0"?>\n<net name="m" version="11">\n<layers/></net>\n'
GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
GZIPPED_PICKLE = gzip.compress(pickled("sklearn.svm._classes", "SVC"), mtime=0)
