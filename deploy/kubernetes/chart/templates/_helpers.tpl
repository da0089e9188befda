{{- define "servable.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of everything: room is left for "-headless". Services may not have dots in theirs. */}}
{{- define "servable.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" }}
{{- else if contains (include "servable.name" .) .Release.Name }}
{{- .Release.Name | replace "." "-" | trunc 54 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "servable.name" .) | replace "." "-" | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "servable.selector" -}}
app.kubernetes.io/name: {{ include "servable.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "servable.labels" -}}
{{ include "servable.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "servable.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "servable.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "servable.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The number of pods; "" where it is the autoscaler's alone, which an annotation of the Deployment then says. A Deployment that
had a number keeps having one, which is what the cluster has: Kubernetes would make one pod of a number that is taken away. */}}
{{- define "servable.replicas" -}}
{{- if not .Values.autoscaling.kind }}
{{- .Values.replicas }}
{{- else }}
{{- with lookup "apps/v1" "Deployment" .Release.Namespace (include "servable.fullname" .) }}
{{- if not (dig "metadata" "annotations" "servable/replicas" "" .) }}
{{- max (int .spec.replicas) (int $.Values.autoscaling.minReplicas) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What /models is: "uri" (nothing is mounted), "image", "init" or "claim"; "" with a config that needs none. */}}
{{- define "servable.source" -}}
{{- $model := .Values.model }}
{{- $given := list }}
{{- if or $model.uri (contains "://" .Values.modelsDir) }}{{ $given = append $given "uri" }}{{ end }}
{{- if $model.image.reference }}{{ $given = append $given "image" }}{{ end }}
{{- if $model.initContainer.image }}{{ $given = append $given "init" }}{{ end }}
{{- if gt (len $given) 1 }}
{{- fail "model.uri, model.image.reference and model.initContainer.image: give one" }}
{{- end }}
{{- if and $model.uri .Values.config }}
{{- fail "model.uri is one model: with config, put its URI into the config's base_path" }}
{{- end }}
{{- if and .Values.modelsDir (or .Values.config $model.uri) }}
{{- fail "modelsDir, config and model.uri: give one, as each says which models there are" }}
{{- end }}
{{- if $given }}{{ first $given }}{{ else if $model.persistentVolumeClaim.claimName }}claim
{{- else if not .Values.config }}
{{- fail "no model: give model.persistentVolumeClaim.claimName, model.uri, model.image.reference, model.initContainer.image, modelsDir or config" }}
{{- end }}
{{- end }}

{{/* Where the claim or image is, and what an init container writes. */}}
{{- define "servable.models" -}}
/models{{ if not (or .Values.modelsDir .Values.config) }}/{{ .Values.model.name }}{{ end }}
{{- end }}

{{/* Refuses an autoscaler that could not choose; its argument is the value autoscaling. */}}
{{- define "servable.pods" -}}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" }}
{{- end }}
{{- end }}

{{/* A number as it was written: Helm reads all of them as floats. */}}
{{- define "servable.value" -}}
{{- if and (kindIs "float64" .) (eq (float64 (int64 .)) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* The flags that the chart sets: a list in YAML. */}}
{{- define "servable.args" -}}
{{- $taken := list "port" "rest_api_port" "host" "model_name" "model_base_path" "models_dir" "model_config_file" "model_config_file_poll_wait_seconds" "model_cache_dir" "drain_delay_seconds" "shutdown_grace_seconds" "auth_file" "tls_cert_file" "tls_key_file" "tls_client_ca_file" "enable_batching" "batching_parameters_file" "metrics_path" "enable_rest_healthcheck" "enable_grpc_healthcheck_service" }}
- serve
{{- if .Values.config }}
- --model_config_file=/etc/servable/config/models.config
- --model_config_file_poll_wait_seconds={{ int64 .Values.reloadSeconds }}
{{- else if .Values.modelsDir }}
- {{ printf "--models_dir=%s" .Values.modelsDir | quote }}
{{- else if .Values.model.uri }}
- {{ printf "--model_name=%s" .Values.model.name | quote }}
- {{ printf "--model_base_path=%s" .Values.model.uri | quote }}
{{- else }}
- {{ printf "--model_name=%s" .Values.model.name | quote }}
- {{ printf "--model_base_path=/models/%s" .Values.model.name | quote }}
{{- end }}
- --rest_api_port=8501
- --port=8500
- --model_cache_dir=/cache
- --drain_delay_seconds={{ int64 .Values.drainSeconds }}
- --shutdown_grace_seconds={{ int64 .Values.graceSeconds }}
{{- if .Values.batching }}
- --enable_batching
- --batching_parameters_file=/etc/servable/batching/batching.config
{{- end }}
{{- if .Values.auth.existingSecret }}
- {{ printf "--auth_file=/etc/servable/auth/%s" .Values.auth.key | quote }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- --tls_cert_file=/etc/servable/tls/tls.crt
- --tls_key_file=/etc/servable/tls/tls.key
{{- if .Values.tls.clientCA.existingSecret }}
- {{ printf "--tls_client_ca_file=/etc/servable/client-ca/%s" .Values.tls.clientCA.key | quote }}
{{- end }}
{{- else if .Values.tls.clientCA.existingSecret }}
{{- fail "tls.clientCA needs tls.existingSecret" }}
{{- end }}
{{- range $name, $value := .Values.flags }}
{{- if has (replace "-" "_" $name) $taken }}
{{- fail (printf "flags.%s is set by the chart from its own values" $name) }}
{{- end }}
{{- if eq (replace "-" "_" $name) "admin_token" }}
{{- fail "flags.admin_token would be in the pod for all to read: give SERVABLE_ADMIN_TOKEN from a Secret, in env or envFrom" }}
{{- end }}
{{- if and (eq $name "proxy_protocol") (eq (toString $value) "require") }}
{{- fail "flags.proxy_protocol=require: Kubernetes' probes do not speak it; give accept" }}
{{- end }}
{{- if not (kindIs "invalid" $value) }}
- {{ printf "--%s=%s" $name (include "servable.value" $value) | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* What is asked by a probe: its argument is a list of the chart's scope and the path. By gRPC only whether the pod is ready: it
has no question for whether a server lives that has no model to serve. */}}
{{- define "servable.probe" -}}
{{- $values := (index . 0).Values }}
{{- if and $values.tls.existingSecret (eq $values.probes.protocol "grpc") }}
{{- fail "probes.protocol=grpc: Kubernetes' probes by gRPC know no TLS; leave it at http" }}
{{- end }}
{{- if $values.tls.clientCA.existingSecret }}
tcpSocket:
  port: rest
{{- else if and (eq $values.probes.protocol "grpc") (eq (index . 1) "/readyz") }}
grpc:
  port: 8500
{{- else }}
httpGet:
  path: {{ index . 1 }}
  port: rest
  scheme: {{ if $values.tls.existingSecret }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}
{{- end }}
