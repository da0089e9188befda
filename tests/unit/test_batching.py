"""BatchingParameters: defaults, refusals and their texts, a version's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from servable.config import batching
from servable.config.values import BatchingOptions
from servable.errors import StatusError


def options(folder: Path, text: str) -> BatchingOptions:
    path = folder / "parameters"
    path.write_text(text + "\n# a comment, so that the file is never empty\n")
    return batching.read(str(path))


def test_what_is_not_set_has_tensorflow_servings_defaults(tmp_path: Path) -> None:
    assert options(tmp_path, "") == BatchingOptions()
    assert options(tmp_path, "max_batch_size { value: 8 }") == BatchingOptions(
        max_batch_size=8, max_execution_batch_size=8
    )


def test_every_field_is_read(tmp_path: Path) -> None:
    text = """
        max_batch_size { value: 128 } batch_timeout_micros { value: 5000 }
        max_enqueued_batches { value: 1000000 } num_batch_threads { value: 3 }
        thread_pool_name { value: "any" } allowed_batch_sizes: 16 allowed_batch_sizes: 32
        pad_variable_length_inputs: true enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 32 }
    """
    assert options(tmp_path, text) == BatchingOptions(
        max_batch_size=128,
        batch_timeout_micros=5000,
        max_enqueued_batches=1000000,
        num_batch_threads=3,
        allowed_batch_sizes=(16, 32),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=32,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("max_enqueued_batches { value: 0 }", "max_enqueued_batches must be positive; was 0"),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("max_batch_size { value: -1 }", "max_batch_size must be positive; was -1"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        (f"num_batch_threads {{ value: {2**40} }}", f"at most {2**31 - 1}; was {2**40}"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 2 allowed_batch_sizes: 4",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            "max_batch_size { value: 8 } max_execution_batch_size { value: 6 } allowed_batch_sizes: 8 "
            "enable_large_batch_splitting { value: true }",
            "must match max_execution_batch_size; last entry was 8; expected 6",
        ),
        ("allowed_batch_sizes: 4 allowed_batch_sizes: 2", "must be positive and ascending; was 4, 2"),
        ("allowed_batch_sizes: 0", "must be positive and ascending; was 0"),
        ("max_batch_size: 8", "Invalid protobuf file"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StatusError) as error:
        options(tmp_path, text)
    assert error.value.code == "INVALID_ARGUMENT"
    assert message in error.value.message


def test_a_version_may_have_its_own(tmp_path: Path) -> None:
    assert batching.of_version(str(tmp_path)) is None
    (tmp_path / batching.VERSION_FILE).write_text("max_batch_size { value: 2 }")
    own = batching.of_version(str(tmp_path))
    assert own is not None
    assert own.max_batch_size == 2
