{{- define "entra-sidecar.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "entra-sidecar.fullname" -}}
{{- $name := include "entra-sidecar.name" . }}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $both | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "entra-sidecar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "entra-sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "entra-sidecar.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "entra-sidecar.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "entra-sidecar.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "entra-sidecar.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "entra-sidecar.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "entra-sidecar.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-tls" (include "entra-sidecar.fullname" .)) }}
{{- end }}

{{- /* Only the listeners, the keys and the drain are the chart's: the probes, ports and grace period must match them. */}}
{{- define "entra-sidecar.config" -}}
{{- $own := dict
  "listen" (ternary "127.0.0.1:4001" ":4001" .Values.tls.enabled)
  "admin" (dict "listen" ":4002")
  "inbound" (dict "keys_file" (printf "/etc/entra-sidecar/inbound/%s" .Values.inbound.key))
  "drain_timeout" (printf "%ds" (int .Values.drainTimeoutSeconds)) }}
{{- if .Values.tls.enabled }}
{{- $_ := set $own "tls" (dict "listen" ":4443" "cert_file" "/etc/entra-sidecar/tls/tls.crt" "key_file" "/etc/entra-sidecar/tls/tls.key") }}
{{- end }}
{{- range $key, $_ := $own }}
{{- if hasKey $.Values.config $key }}
{{- fail (printf "config.%s is set by the chart: remove it" $key) }}
{{- end }}
{{- end }}
{{- $given := omit .Values.config "identities" }}
{{- with .Values.config.identities }}{{ $_ := set $given "identities" . }}{{ end }}
{{- toYaml (merge $own $given) }}
{{- end }}

{{- /* "true" if an identity gets its token from the machine's metadata service. */}}
{{- define "entra-sidecar.usesIMDS" -}}
{{- $uses := not .Values.workloadIdentity.enabled }}
{{- range .Values.config.identities }}
{{- if eq (.credential | default "") "managed-identity" }}{{ $uses = true }}{{ end }}
{{- end }}
{{- if $uses }}true{{ end }}
{{- end }}

{{- define "entra-sidecar.url" -}}
{{- $scheme := ternary "https" "http" .Values.tls.enabled }}
{{- $port := int .Values.service.port }}
{{- $usual := eq $port (ternary 443 80 .Values.tls.enabled) }}
{{- printf "%s://%s.%s.svc%s" $scheme (include "entra-sidecar.fullname" .) .Release.Namespace (ternary "" (printf ":%d" $port) $usual) }}
{{- end }}

{{- /* What the schema cannot say: either a Secret or an issuer. */}}
{{- define "entra-sidecar.validate" -}}
{{- if and .Values.tls.enabled (not .Values.tls.existingSecret) (not .Values.tls.certManager.issuerName) }}
{{- fail "tls: set tls.existingSecret, or tls.certManager.issuerName for a certificate of cert-manager's (or tls.enabled=false where a service mesh encrypts)" }}
{{- end }}
{{- end }}
