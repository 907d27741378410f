{{- define "mboold.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | replace "mboold-mboold" "mboold" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "mboold.selector" -}}
app.kubernetes.io/name: mboold
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mboold.labels" -}}
{{ include "mboold.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The configuration file: the options that are given, and those that the chart decides. */}}
{{- define "mboold.config" -}}
{{- $models := dict -}}
{{- range $name, $file := .Values.models -}}
{{- $_ := set $models $name (printf "/models/%s" $file) -}}
{{- end -}}
{{- $ours := dict "model" $models "listen" "0.0.0.0:8080" "ops_listen" "0.0.0.0:9090" "drain_timeout" .Values.drain -}}
{{- if .Values.keysSecret -}}
{{- $_ := set $ours "keys" "/etc/mboold-keys/keys" -}}
{{- else -}}
{{- $_ := set $ours "insecure" true -}}
{{- end -}}
{{- mergeOverwrite (dict "log_format" "json") .Values.options $ours | toPrettyJson -}}
{{- end -}}
