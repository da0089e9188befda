"""Prometheus's protobuf messages, described here on their own: what a page in that format is read by.

https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.decoder import _DecodeVarint32  # type: ignore[attr-defined]

PACKAGE = "io.prometheus.client"
FIELDS: dict[str, list[str]] = {
    "LabelPair": ["name string 1", "value string 2"],
    "Value": ["value double 1"],
    "Bucket": ["cumulative_count uint64 1", "upper_bound double 2"],
    "BucketSpan": ["offset sint32 1", "length uint32 2"],
    "Histogram": [
        "sample_count uint64 1",
        "sample_sum double 2",
        "bucket *Bucket 3",
        "schema sint32 5",
        "zero_threshold double 6",
        "zero_count uint64 7",
        "positive_span *BucketSpan 12",
        "positive_delta *sint64 13",
    ],
    "Metric": ["label *LabelPair 1", "gauge Value 2", "counter Value 3", "histogram Histogram 7"],
    "MetricFamily": ["name string 1", "help string 2", "type int32 3", "metric *Metric 4"],
}
"""Message → its fields: name, type, number. ``*``: repeated."""


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package=PACKAGE, syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for name, kind, number in (field.split() for field in fields):
            label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            field = described.field.add(name=name, number=int(number), label=label)
            if kind.strip("*") in FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{kind.strip('*')}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind.strip('*').upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


FAMILY = message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.MetricFamily"))


def families(page: bytes) -> Iterator[Any]:
    """Yields the messages of a page, each of which has its length before it."""
    position = 0
    while position < len(page):
        length, position = _DecodeVarint32(page, position)
        assert position + length <= len(page)
        yield FAMILY.FromString(page[position : position + length])
        position += length


def native_counts(histogram: Any) -> dict[int, int]:
    """Returns the counts of a native histogram's buckets by their indices."""
    counts: dict[int, int] = {}
    index, count = 0, 0
    deltas = iter(histogram.positive_delta)
    for span in histogram.positive_span:
        index += span.offset
        for _ in range(span.length):
            count += next(deltas)
            counts[index] = count
            index += 1
    assert next(deltas, None) is None
    return counts
