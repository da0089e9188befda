"""The protobuf messages of TensorFlow Serving's files and services, in a private descriptor pool.

The pool is private so that ``servable`` and packages that register the same names (``tensorflow``,
``tensorflow-serving-api``) can share a process. The descriptors are those the core was built with; nothing is
read, and protobuf is not imported, before the first message is requested.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool


@cache
def message_class(name: str) -> Any:
    """Returns the class of a message by its full name, such as ``tensorflow.serving.ModelServerConfig``."""
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(pool().FindMessageTypeByName(name))


@cache
def pool() -> DescriptorPool:
    """Returns the private pool with every message in it."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool

    private = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors()).file:
        private.Add(file)
    return private


def descriptors() -> bytes:
    """Returns a serialized FileDescriptorSet, imports before importers."""
    from servable import _core

    return _core.descriptors()
