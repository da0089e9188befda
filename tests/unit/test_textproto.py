"""Text-format config files, with messages from the core's descriptors in a separate pool."""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings, strategies as st

from servable import messages
from servable.config.config_files import (
    read_model_config_file,
    read_monitoring_config,
    read_platform_config,
    read_ssl_config,
    session_config,
)
from servable.config.textproto import read_text_message
from servable.config.values import (
    All,
    Latest,
    LoadOptions,
    LoggingConfig,
    ModelConfig,
    Specific,
    VersionPolicy,
)
from servable.errors import StatusError

pytestmark = pytest.mark.usefixtures("descriptors")


def write(folder: Path, text: str) -> str:
    path = folder / "file.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def models(folder: Path, *entries: str) -> tuple[ModelConfig, ...]:
    body = "".join(f"config {{ {entry} }}\n" for entry in entries)
    return read_model_config_file(write(folder, f"model_config_list {{\n{body}}}"))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(
                [
                    *"{}:;,<>[]\"'-#\n 0",
                    "model_config_list",
                    "config",
                    "name",
                    "base_path",
                    '"m"',
                    "/a",
                    "all",
                ]
            )
        ).map(" ".join),
    )
)
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(StatusError):
        read_model_config_file(str(path))


def test_all_fields_of_a_model(tmp_path: Path) -> None:
    (model,) = models(
        tmp_path,
        'name: "m" base_path: "/models/m" model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 42 versions: 43 } } "
        'version_labels { key: "stable" value: 42 } version_labels { key: "canary" value: 43 } '
        'logging_config { log_collector_config { type: "x" filename_prefix: "y" } }',
    )
    assert model == ModelConfig(
        "m",
        "/models/m",
        policy=Specific((42, 43)),
        labels={"canary": 43, "stable": 42},
        logging=LoggingConfig("x", "y", message=b"\n\x06\n\x01x\x12\x01y"),
    )


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", Latest(1)),
        ("model_version_policy { }", Latest(1)),
        ("model_version_policy { latest { } }", Latest(1)),
        ("model_version_policy { latest { num_versions: 3 } }", Latest(3)),
        ("model_version_policy { all { } }", All()),
        ("model_version_policy { specific { } }", Specific(())),
    ],
)
def test_policies(tmp_path: Path, text: str, policy: VersionPolicy) -> None:
    (model,) = models(tmp_path, f'name: "m" base_path: "/m" model_platform: "tensorflow" {text}')
    assert model.policy == policy


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            'name: "m" model_type: TENSORFLOW model_platform: "tensorflow"',
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform, model name is m",
        ),
        (
            'name: "m"',
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is m",
        ),
        ('name: "m" model_type: OTHER', "ModelServerConfig::model_type choice 2 not supported."),
    ],
)
def test_platform_errors(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(StatusError) as error:
        models(tmp_path, entry)
    assert (error.value.code, error.value.message) == ("INVALID_ARGUMENT", message)


def test_the_deprecated_type_counts_as_the_platform(tmp_path: Path) -> None:
    (model,) = models(tmp_path, 'name: "m" base_path: "/m" model_type: TENSORFLOW')
    assert model.platform == "tensorflow"


def test_empty_lists(tmp_path: Path) -> None:
    assert models(tmp_path) == ()
    assert read_model_config_file(write(tmp_path, "# nothing\n")) == ()


def test_while_serving_a_file_without_a_list_is_refused(tmp_path: Path) -> None:
    for text in ("\n", "# nothing\n"):
        with pytest.raises(StatusError, match="FAILED_PRECONDITION: Cannot transition to requested config"):
            read_model_config_file(write(tmp_path, text), replacing=True)
    assert read_model_config_file(write(tmp_path, "model_config_list {}"), replacing=True) == ()


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    nested = "[type.googleapis.com/google.protobuf.Any] { " * 600 + " }" * 600
    with pytest.raises(StatusError, match="Invalid protobuf file"):
        read_model_config_file(write(tmp_path, f"custom_model_config {{ {nested} }}"))


def test_a_custom_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match="custom_model_config"):
        read_model_config_file(write(tmp_path, "custom_model_config { }"))


@pytest.mark.needs_shared
def test_tensorflow_servings_own_test_file(shared: Path) -> None:
    found = read_model_config_file(str(shared / "testdata" / "tensorflow_serving" / "good_model_config.txt"))
    assert [model.name for model in found] == ["half_plus_two", "half_plus_three"]


def test_a_missing_file(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    with pytest.raises(StatusError) as error:
        read_model_config_file(path)
    assert str(error.value) == f"NOT_FOUND: {path}; No such file or directory"


def test_a_zero_byte_file(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    with pytest.raises(StatusError) as error:
        read_model_config_file(path)
    assert str(error.value) == f"INVALID_ARGUMENT: {path}; Invalid argument"


def test_a_syntax_error_has_line_and_column_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "model_config_list {\n  nonsense: 1\n}")
    with pytest.raises(StatusError) as error, caplog.at_level(logging.ERROR):
        read_model_config_file(path)
    assert str(error.value) == f"INVALID_ARGUMENT: Invalid protobuf file: '{path}'"
    (line,) = caplog.messages
    assert line.startswith("Error parsing text-format tensorflow.serving.ModelServerConfig: 2:3: ")
    assert '"nonsense"' in line


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a folder"])
def test_files_that_are_no_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(StatusError, match="Invalid protobuf file"):
        read_model_config_file(str(path))


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match="Is a directory"):
        read_model_config_file(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config: { enable: true, path: "/metrics" }', "/metrics"),
        ('prometheus_config { path: "/metrics" }', None),
        ("prometheus_config { }", None),
    ],
)
def test_monitoring(tmp_path: Path, text: str, path: str | None) -> None:
    assert read_monitoring_config(write(tmp_path, text)) == path


def test_ssl_values_are_the_texts_themselves(tmp_path: Path) -> None:
    tls = read_ssl_config(
        write(tmp_path, 'server_key: "K" server_cert: "C" custom_ca: "A" client_verify: true')
    )
    assert (tls.key, tls.certificate, tls.client_ca, tls.client_verify) == ("K", "C", "A", True)


PLATFORM_CONFIG = """
platform_configs {
  key: "tensorflow"
  value {
    source_adapter_config {
      [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
        legacy_config {
          session_config { intra_op_parallelism_threads: 3 }
          saved_model_tags: "serve"
          saved_model_tags: "gpu"
          enable_model_warmup: true
          model_warmup_options { num_request_iterations { value: 4 } }
        }
      }
    }
  }
}
"""


def test_a_platform_config(tmp_path: Path) -> None:
    options = read_platform_config(write(tmp_path, PLATFORM_CONFIG), LoadOptions())
    assert (options.tags, options.warmup, options.warmup_iterations) == (("serve", "gpu"), True, 4)
    assert config_proto(options.session_config).intra_op_parallelism_threads == 3


def test_a_platform_config_for_something_else(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match="has no platform config for tensorflow"):
        read_platform_config(
            write(tmp_path, PLATFORM_CONFIG.replace('"tensorflow"', '"other"')), LoadOptions()
        )


def test_a_platform_config_that_asks_for_what_tensorflow_serving_refuses_too(tmp_path: Path) -> None:
    text = PLATFORM_CONFIG.replace("legacy_config {", "legacy_config { enable_saved_model_config: true")
    with pytest.raises(StatusError, match="Saved model config functionality is not implemented"):
        read_platform_config(write(tmp_path, text), LoadOptions())


def config_proto(content: bytes) -> Any:
    return messages.message_class("tensorflow.ConfigProto").FromString(content)


def test_flags_overwrite_the_session_config_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "intra_op_parallelism_threads: 9 inter_op_parallelism_threads: 9 allow_soft_placement: true "
        'device_count { key: "CPU" value: 2 } '
        "gpu_options { per_process_gpu_memory_fraction: 0.9 allow_growth: true }",
    )
    config = config_proto(session_config(path, 0, 3, 0.0))
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (0, 3)
    assert (config.gpu_options.per_process_gpu_memory_fraction, config.gpu_options.allow_growth) == (
        0.0,
        True,
    )
    assert config.allow_soft_placement and dict(config.device_count) == {"CPU": 2}


def test_flags_alone() -> None:
    config = config_proto(session_config("", 2, 3, 0.25, bfloat16=True))
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (2, 3)
    assert config.gpu_options.per_process_gpu_memory_fraction == 0.25
    assert config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 == 1


def test_parallelism_beyond_32_bits_is_refused() -> None:
    with pytest.raises(StatusError, match="32 bits"):
        session_config("", 2**40, 0, 0.0)


@pytest.mark.needs_shared
def test_batching_parameters_parse(shared: Path) -> None:
    path = str(shared / "testdata" / "tensorflow_serving" / "batching_config.txt")
    assert read_text_message(path, "tensorflow.serving.BatchingParameters").max_batch_size.value == 128


def test_the_pool_is_our_own() -> None:
    """Run in a separate process, where no other test has registered the same names."""
    script = (
        "from google.protobuf import descriptor_pool\n"
        "from servable import messages\n"
        f"messages.descriptors = lambda: open({str(ROOT / 'src/pb/descriptors.bin')!r}, 'rb').read()\n"
        "messages.message_class('tensorflow.serving.ModelServerConfig')\n"
        "try:\n"
        "    descriptor_pool.Default().FindMessageTypeByName('tensorflow.serving.ModelServerConfig')\n"
        "except KeyError:\n"
        "    print('private')\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.stdout == "private\n", run.stderr


def test_what_the_parser_says_of_a_file_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A polled file is read at every look."""
    file = tmp_path / "models.config"

    def read(text: str) -> None:
        file.write_text(text)
        with suppress(StatusError):
            read_model_config_file(str(file))

    for text in ("model_config_list {", "model_config_list {", "{", "model_config_list {}", "{"):
        read(text)
    said = [line for line in caplog.messages if line.startswith("Error parsing text-format")]
    assert len(said) == 3
    assert said[0] != said[1] == said[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('server_key: "SECRET" client_verify: perhaps', '1:37: Expected "true" or "false".'),
        ('server_cert: "C"\nserver_key: "SECRET', "2:13: String missing ending quote"),
        ("server_key: SECRET", "1:13: Expected string but found"),
        ('server_key: "SECRET\\xg"', "1:13: "),
    ],
)
def test_no_key_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, said: str) -> None:
    with pytest.raises(StatusError) as error:
        read_ssl_config(write(tmp_path, text))
    assert said in error.value.hint and said in caplog.text
    assert "SECRET" not in caplog.text + error.value.hint
