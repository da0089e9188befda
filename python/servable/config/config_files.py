"""Reads the config files: models, platforms, monitoring, TLS, session config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from servable.config import batching
from servable.config.json_fields import fields_of, message_from_fields
from servable.config.textproto import read_text_message
from servable.config.traffic_messages import traffic_of, write_traffic
from servable.config.values import (
    PLATFORM,
    All,
    Folder,
    Latest,
    LoadOptions,
    LoggingConfig,
    ModelConfig,
    Specific,
    TlsOptions,
    VersionPolicy,
)
from servable.errors import StatusError, invalid_argument
from servable.messages import message_class, pool
from servable.savedmodel.layout import is_version_name

METRICS_PATH = "/monitoring/prometheus/metrics"
"""TensorFlow Serving's default path of the metrics."""


def read_model_config_file(path: str, replacing: bool = False) -> tuple[ModelConfig, ...]:
    """Reads the models of a text ModelServerConfig.

    Checks each entry on its own; ``check_models`` does the rest. replacing: while serving, a file with no
    content (whitespace, comments) is refused, as by TensorFlow Serving; an empty list is not.
    """
    config = read_text_message(path, "tensorflow.serving.ModelServerConfig")
    if replacing and config.WhichOneof("config") is None:
        raise StatusError(
            "FAILED_PRECONDITION",
            "Cannot transition to requested config. "
            "It is only legal to transition from one ModelConfigList to another.",
            f"{path} holds no model_config_list; to unload everything, write: model_config_list {{}}",
        )
    return models_of(config)


def models_of(config: Any) -> tuple[ModelConfig, ...]:
    """Returns the models of a ``tensorflow.serving.ModelServerConfig`` message; raises ``StatusError``."""
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid_argument("custom_model_config is not supported", "list the models in model_config_list")
    return tuple(_model(entry) for entry in config.model_config_list.config)


def model_from_fields(fields: Mapping[str, Any]) -> ModelConfig:
    """Parses a ModelConfig in protobuf's JSON form, with either spelling of names. Raises ``StatusError``."""
    return _model(message_from_fields("ModelConfig", fields))


def config_fields(models: Sequence[ModelConfig]) -> dict[str, Any]:
    """Returns the models as a ModelServerConfig in protobuf's JSON form, names as in the text format."""
    return fields_of(_config_message(models)) or {"model_config_list": {}}


def config_text(models: Sequence[ModelConfig]) -> str:
    """Returns the models as a text ModelServerConfig, for ``read_model_config_file``."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(_config_message(models), descriptor_pool=pool()))


def policy_fields(policy: VersionPolicy) -> dict[str, Any]:
    """Returns a version policy in the form of ``config_fields``."""
    if isinstance(policy, All):
        return {"all": {}}
    if isinstance(policy, Latest):
        return {"latest": {"num_versions": policy.count}}
    numbers = policy.versions if isinstance(policy, Specific) else (policy.version,)
    return {"specific": {"versions": list(numbers)}}


def _config_message(models: Sequence[ModelConfig]) -> Any:
    config = message_class("tensorflow.serving.ModelServerConfig")()
    config.model_config_list.SetInParent()
    for model in models:
        entry = config.model_config_list.config.add()
        entry.name, entry.base_path = model.name, _base_path(model)
        entry.model_platform = model.platform
        entry.version_labels.update(model.labels)
        if model.logging is not None:
            entry.logging_config.ParseFromString(model.logging.message)
            # Present, even if it says nothing.
            entry.logging_config.SetInParent()
        if model.traffic is not None:
            write_traffic(model.traffic, entry.traffic)
        entry.pinned = model.pinned
        if isinstance(model.policy, All):
            entry.model_version_policy.all.SetInParent()
        elif isinstance(model.policy, Latest):
            entry.model_version_policy.latest.num_versions = model.policy.count
        elif isinstance(model.policy, Specific):
            entry.model_version_policy.specific.versions.extend(model.policy.versions)
        else:
            entry.model_version_policy.specific.versions.append(model.policy.version)
    return config


def _base_path(model: ModelConfig) -> str:
    """Returns the base path to write: the parent for a version folder that is named by its number."""
    parent, _, folder = model.base_path.rstrip("/").rpartition("/")
    number = int(folder) if is_version_name(folder) else None
    named = isinstance(model.policy, Folder) and number == model.policy.version
    return parent or "/" if named else model.base_path


def _model(entry: Any) -> ModelConfig:
    return ModelConfig(
        name=entry.name,
        base_path=entry.base_path,
        platform=_platform(entry),
        policy=_policy(entry),
        labels=dict(sorted(entry.version_labels.items())),
        logging=_logging(entry.logging_config) if entry.HasField("logging_config") else None,
        traffic=traffic_of(entry.traffic) if entry.HasField("traffic") else None,
        pinned=entry.pinned,
    )


def _logging(config: Any) -> LoggingConfig:
    collector, sampling = config.log_collector_config, config.sampling_config
    return LoggingConfig(
        collector=collector.type,
        prefix=collector.filename_prefix,
        rate=sampling.sampling_rate,
        sampling=sampling.SerializeToString(deterministic=True),
        message=config.SerializeToString(deterministic=True),
    )


def _platform(entry: Any) -> str:
    """Returns ``model_platform``, or the deprecated ``model_type`` in its place."""
    fields = "ModelServerConfig::model_type (deprecated)", "ModelServerConfig::model_platform"
    if entry.model_type and entry.model_platform:
        raise invalid_argument(
            f"Illegal setting both {fields[0]} and {fields[1]}, model name is {entry.name}"
        )
    if not entry.model_type and not entry.model_platform:
        raise invalid_argument(
            f"Illegal setting neither {fields[0]} nor {fields[1]}, model name is {entry.name}",
            f'add model_platform: "{PLATFORM}"',
        )
    if entry.model_type not in (0, 1):
        raise invalid_argument(f"ModelServerConfig::model_type choice {entry.model_type} not supported.")
    return str(entry.model_platform) or PLATFORM


def _policy(entry: Any) -> VersionPolicy:
    policy = entry.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return All()
    if choice == "specific":
        return Specific(tuple(policy.specific.versions))
    return Latest(policy.latest.num_versions or 1)


def read_monitoring_config(path: str) -> str | None:
    """Returns the path at which metrics are served, None if the file does not enable them."""
    config = read_text_message(path, "tensorflow.serving.MonitoringConfig").prometheus_config
    if not config.enable:
        return None
    return str(config.path) or METRICS_PATH


def read_ssl_config(path: str) -> TlsOptions:
    """Reads the PEM texts of a text SSLConfig."""
    config = read_text_message(path, "tensorflow.serving.SSLConfig")
    authorities = config.custom_ca
    if config.client_verify and not authorities:
        authorities = _system_authorities()
    return TlsOptions(config.server_key, config.server_cert, authorities, config.client_verify)


def _system_authorities() -> str:
    """Returns the PEM texts of the authorities that this machine trusts."""
    import ssl

    path = ssl.get_default_verify_paths().cafile
    try:
        with open(path or "", encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        raise invalid_argument(
            "client_verify of the SSL config needs authorities, and this machine has none",
            "give the PEM text of those that sign your clients' certificates as custom_ca",
        ) from None


def read_platform_config(path: str, options: LoadOptions) -> LoadOptions:
    """Returns ``options`` with those for platform ``tensorflow`` in a text PlatformConfigMap."""
    platforms = read_text_message(path, "tensorflow.serving.PlatformConfigMap").platform_configs
    if PLATFORM not in platforms:
        raise invalid_argument(f"{path} has no platform config for {PLATFORM}")
    adapter = message_class("tensorflow.serving.SavedModelBundleSourceAdapterConfig")()
    if not platforms[PLATFORM].source_adapter_config.Unpack(adapter):
        raise invalid_argument(f"{path}: expected a {adapter.DESCRIPTOR.full_name} for {PLATFORM}")
    bundle = adapter.legacy_config
    if bundle.enable_saved_model_config:
        raise StatusError("UNIMPLEMENTED", "Saved model config functionality is not implemented.")
    iterations = bundle.model_warmup_options.num_request_iterations
    parameters = bundle.batching_parameters
    return replace(
        options,
        tags=tuple(bundle.saved_model_tags) or ("serve",),
        session_config=bundle.session_config.SerializeToString(deterministic=True),
        warmup=bundle.enable_model_warmup,
        warmup_iterations=max(1, iterations.value),
        batching=batching.of_message(parameters) if bundle.HasField("batching_parameters") else None,
        batching_per_version=bundle.enable_per_model_batching_params,
        prefer_tflite=bundle.prefer_tflite_model,
    )


def session_config(
    path: str, intra_op: int, inter_op: int, gpu_fraction: float, bfloat16: bool = False
) -> bytes:
    """Returns a serialized tensorflow.ConfigProto: text file ``path`` ("" for none), overridden by the flags.

    As in TensorFlow Serving, thread counts and the GPU memory fraction always replace those of the file, even
    if 0.
    """
    config = (
        read_text_message(path, "tensorflow.ConfigProto")
        if path
        else message_class("tensorflow.ConfigProto")()
    )
    if not (-(2**31) <= intra_op < 2**31 and -(2**31) <= inter_op < 2**31):
        raise invalid_argument(f"parallelism is limited to 32 bits, got {intra_op} and {inter_op}")
    config.intra_op_parallelism_threads = intra_op
    config.inter_op_parallelism_threads = inter_op
    if gpu_fraction or config.HasField("gpu_options"):
        config.gpu_options.per_process_gpu_memory_fraction = gpu_fraction
    if bfloat16:
        config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    return bytes(config.SerializeToString(deterministic=True))
