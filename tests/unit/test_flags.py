"""The list of flags, compared with TensorFlow Serving's, and the sentences made from it."""

from __future__ import annotations

import pytest

from servable.config.flags import CPUS, FLAGS, GROUPS, nearest, no_effect_lines

# Name, kind, default, from TensorFlow Serving's table of flags.
THEIRS = [
    ("port", "port", 8500),
    ("grpc_socket_path", "string", ""),
    ("rest_api_port", "port", 0),
    ("rest_api_num_threads", "int32", 4 * CPUS),
    ("rest_api_timeout_in_ms", "int32", 30000),
    ("rest_api_enable_cors_support", "bool", False),
    ("enable_batching", "bool", False),
    ("allow_version_labels_for_unavailable_models", "bool", False),
    ("batching_parameters_file", "string", ""),
    ("enable_per_model_batching_parameters", "bool", False),
    ("model_config_file", "string", ""),
    ("model_config_file_poll_wait_seconds", "int32", 0),
    ("model_name", "string", "default"),
    ("model_base_path", "string", ""),
    ("num_load_threads", "int32", 0),
    ("num_unload_threads", "int32", 0),
    ("max_num_load_retries", "int32", 5),
    ("load_retry_interval_micros", "int64", 60000000),
    ("file_system_poll_wait_seconds", "int32", 1),
    ("flush_filesystem_caches", "bool", True),
    ("tensorflow_session_parallelism", "int64", 0),
    ("tensorflow_session_config_file", "string", ""),
    ("tensorflow_intra_op_parallelism", "int64", 0),
    ("tensorflow_inter_op_parallelism", "int64", 0),
    ("use_alts_credentials", "bool", False),
    ("ssl_config_file", "string", ""),
    ("platform_config_file", "string", ""),
    ("per_process_gpu_memory_fraction", "float", 0.0),
    ("saved_model_tags", "string", "serve"),
    ("grpc_channel_arguments", "string", ""),
    ("grpc_max_threads", "int32", 4 * CPUS),
    ("enable_model_warmup", "bool", True),
    ("num_request_iterations_for_warmup", "int32", 0),
    ("version", "bool", False),
    ("monitoring_config_file", "string", ""),
    ("remove_unused_fields_from_bundle_metagraph", "bool", True),
    ("prefer_tflite_model", "bool", False),
    ("num_tflite_pools", "int32", CPUS),
    ("num_tflite_interpreters_per_pool", "int32", 1),
    ("enable_signature_method_name_check", "bool", False),
    ("xla_cpu_compilation_enabled", "bool", False),
    ("xla_gpu_compilation_enabled", "bool", False),
    ("enable_profiler", "bool", True),
    ("thread_pool_factory_config_file", "string", ""),
    ("mixed_precision", "string", ""),
    ("skip_initialize_tpu", "bool", False),
    ("enable_grpc_healthcheck_service", "bool", False),
    ("enable_serialization_as_tensor_content", "bool", False),
]


@pytest.mark.parametrize(("name", "kind", "default"), THEIRS)
def test_tensorflow_servings_flags_are_all_there(name: str, kind: str, default: object) -> None:
    assert (FLAGS[name].kind, FLAGS[name].default, FLAGS[name].own) == (kind, default, False)


def test_the_rest_are_marked_as_our_own() -> None:
    assert {flag.name for flag in FLAGS.values() if not flag.own} == {name for name, _, _ in THEIRS}


def test_every_flag_is_documented_under_a_heading_and_no_heading_is_empty() -> None:
    assert all(flag.help for flag in FLAGS.values())
    assert {flag.group for flag in FLAGS.values()} == set(GROUPS)


def test_nearest_names_a_close_flag_and_nothing_for_noise() -> None:
    assert nearest("rest_port") == "rest_api_port"
    assert nearest("zzzzzz") == ""


def test_a_flag_without_effect_speaks_only_when_it_is_set_to_something_else() -> None:
    defaults = {flag.name: flag.default for flag in FLAGS.values()}
    assert no_effect_lines(defaults, serve=False) == []
    (line,) = no_effect_lines({**defaults, "grpc_max_threads": 9999}, serve=False)
    assert line.startswith("--grpc_max_threads=9999 has no effect: ")
