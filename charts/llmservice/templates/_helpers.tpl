{{- define "llmservice.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "llmservice.account" -}}
{{- .Values.serviceAccount.name | default (include "llmservice.name" .) -}}
{{- end -}}

{{- define "llmservice.selector" -}}
app.kubernetes.io/name: llmservice-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "llmservice.labels" -}}
{{ include "llmservice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "llmservice.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where scaling reads what replicas have to do. Not there with --reuse-values of an earlier release. */}}
{{- define "llmservice.prometheus" -}}
{{- with .Values.prometheus -}}
{{- $ca := ternary "/etc/llmservice-prometheus/ca.crt" "" (not (empty .caConfigMap)) -}}
{{- $token := ternary "/etc/llmservice-prometheus/token" "" (not (empty .tokenSecret)) -}}
{{- dict "url" .url "caFile" $ca "tokenFile" $token "labels" .labels "scrapeSeconds" .scrapeSeconds | toJson -}}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* Certificates and token for Prometheus. */}}
{{- define "llmservice.prometheus.volume" -}}
- name: prometheus
  projected:
    sources:
      {{- with .Values.prometheus.caConfigMap }}
      - configMap: {name: {{ .name }}, items: [{key: {{ .key | default "ca.crt" }}, path: ca.crt}]}
      {{- end }}
      {{- with .Values.prometheus.tokenSecret }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key | default "token" }}, path: token}]}
      {{- end }}
{{- end -}}

{{/* Whether the gateway's page asks Prometheus by these. */}}
{{- define "llmservice.gateway.prometheus" -}}
{{- $with := and (include "llmservice.gateway.console" .) (.Values.prometheus).url -}}
{{- if and $with (or .Values.prometheus.caConfigMap .Values.prometheus.tokenSecret) }}true{{ end -}}
{{- end -}}

{{/* What the operator may do where it watches. It reads no Secret there and runs no command in a pod. */}}
{{- define "llmservice.rules" -}}
- apiGroups: [llmservice.dev]
  resources: [llmservices]
  verbs: [get, list, watch]
- apiGroups: [llmservice.dev]
  resources: [llmservices/status]
  verbs: [patch]
- apiGroups: [llmservice.dev]
  resources: [llmservices/scale]
  verbs: [get, update]  # where spec.scaling lets demand decide
- apiGroups: [llmservice.dev]
  resources: [llmservices/finalizers]
  verbs: [update]  # some clusters ask for it before an owner may be named
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]  # a service's own, which says what adapters its replicas load
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]  # what the end of a busy replica costs, and that one is to look at its adapters
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
{{- if .Values.monitoring.enabled }}
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, watch, create, patch]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [list, create, patch]  # read: why a pod of a service waits for its node
{{- end -}}

{{- define "llmservice.gateway.name" -}}
{{ include "llmservice.name" . }}-gateway
{{- end -}}

{{- define "llmservice.gateway.selector" -}}
app.kubernetes.io/name: llmservice-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "llmservice.gateway.labels" -}}
{{ include "llmservice.gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* Whether it asks for API keys. With --reuse-values of a release that knew none it goes on without. */}}
{{- define "llmservice.gateway.keys" -}}
{{- if and (.Values.gateway).enabled ((.Values.gateway).keys).enabled }}true{{ end -}}
{{- end -}}

{{/* Whether requests launch models. Nobody is to run any without a key, nor where the operator does not look. */}}
{{- define "llmservice.gateway.launch" -}}
{{- $namespaces := ((.Values.gateway).launch).namespaces -}}
{{- if and (.Values.gateway).enabled $namespaces -}}
{{- if not (include "llmservice.gateway.keys" .) -}}
{{- fail "gateway.launch.namespaces lets requests run models: it takes gateway.keys.enabled, so that not everybody may." -}}
{{- end -}}
{{- range $namespaces -}}
{{- if and $.Values.watchNamespaces (not (has . $.Values.watchNamespaces)) -}}
{{- fail (printf "gateway.launch.namespaces has %s, which watchNamespaces has not: nothing would serve what is launched there." .) -}}
{{- end -}}
{{- end -}}
true
{{- end -}}
{{- end -}}

{{/* Whether it serves a page for browsers. With --reuse-values of a release that had none it goes on without. */}}
{{- define "llmservice.gateway.console" -}}
{{- if and (.Values.gateway).enabled ((.Values.gateway).console).enabled }}true{{ end -}}
{{- end -}}

{{/* What the operator knows of it. Values that an earlier release did not have are not there with --reuse-values. */}}
{{- define "llmservice.gateway.installation" -}}
{{- if (.Values.gateway).enabled -}}
{{- $labels := fromYaml (include "llmservice.gateway.selector" .) -}}
{{- $keys := eq (include "llmservice.gateway.keys" .) "true" -}}
{{- dict "service" (include "llmservice.gateway.name" .) "labels" $labels "access" .Values.gateway.access "keys" $keys | toJson -}}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* What the gateway may do where it serves. */}}
{{- define "llmservice.gateway.rules" -}}
- apiGroups: [llmservice.dev]
  resources: [llmservices]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
{{- if include "llmservice.gateway.console" . }}
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- end }}
{{- end -}}
