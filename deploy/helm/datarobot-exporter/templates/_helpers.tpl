{{/* The chart's name, as a label. */}}
{{- define "datarobot-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of the objects: the release's if it contains the chart's, else both. */}}
{{- define "datarobot-exporter.fullname" -}}
{{- $name := include "datarobot-exporter.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The labels of one release's objects. */}}
{{- define "datarobot-exporter.instanceLabels" -}}
app.kubernetes.io/name: {{ include "datarobot-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels that only the exporter's pods have: not the pod of `helm test`, nor any other. */}}
{{- define "datarobot-exporter.selectorLabels" -}}
{{ include "datarobot-exporter.instanceLabels" . }}
app.kubernetes.io/component: exporter
{{- end }}

{{- define "datarobot-exporter.testLabels" -}}
{{ include "datarobot-exporter.instanceLabels" . }}
app.kubernetes.io/component: test
{{- end }}

{{/* Labels of objects and pods. */}}
{{- define "datarobot-exporter.metaLabels" -}}
{{- with .Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
app.kubernetes.io/part-of: datarobot-exporter
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* The exporter's pod: without the chart's version, as a new chart version alone must not restart it. */}}
{{- define "datarobot-exporter.podLabels" -}}
{{ include "datarobot-exporter.metaLabels" . }}
{{ include "datarobot-exporter.selectorLabels" . }}
{{- end }}

{{- define "datarobot-exporter.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "datarobot-exporter.labels" -}}
{{ include "datarobot-exporter.podLabels" . }}
helm.sh/chart: {{ include "datarobot-exporter.chart" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "datarobot-exporter.serviceAccountName" -}}
{{- $own := ternary (include "datarobot-exporter.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $own .Values.serviceAccount.name }}
{{- end }}

{{- define "datarobot-exporter.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Port and path of the metrics, from the configuration. */}}
{{- define "datarobot-exporter.port" -}}
{{- $web := (.Values.config).web | default dict -}}
{{- $web.listen_address | default ":10072" | toString | regexFind "[0-9]+$" -}}
{{- end }}

{{- define "datarobot-exporter.telemetryPath" -}}
{{- $web := (.Values.config).web | default dict -}}
{{- $web.telemetry_path | default "/metrics" -}}
{{- end }}

{{/* http, or https if the web configuration file has TLS. */}}
{{- define "datarobot-exporter.scheme" -}}
{{- ternary "https" "http" .Values.webConfig.tls -}}
{{- end }}

{{- define "datarobot-exporter.webConfigDirectory" -}}
/run/secrets/web-config
{{- end }}

{{/*
A probe of the values. Takes a list of the values, the probe, and what replaces its httpGet if clients need a
certificate, which the kubelet does not have.
*/}}
{{- define "datarobot-exporter.probe" -}}
{{- $values := index . 0 -}}
{{- $probe := deepCopy (index . 1) -}}
{{- if and $values.webConfig.clientCertificates $probe.httpGet -}}
{{- $probe = merge (omit $probe "httpGet") (index . 2) -}}
{{- else if and $values.webConfig.tls $probe.httpGet -}}
{{- $_ := set $probe "httpGet" (merge $probe.httpGet (dict "scheme" "HTTPS")) -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end }}

{{/* The directory of the exporter's state; empty if it keeps none. */}}
{{- define "datarobot-exporter.stateDirectory" -}}
{{- $state := (.Values.config).state | default dict -}}
{{- $state.directory | default (ternary "/var/lib/datarobot-exporter" "" .Values.persistence.enabled) -}}
{{- end }}

{{- define "datarobot-exporter.tokensDirectory" -}}
/run/secrets/datarobot-exporter
{{- end }}

{{/* Specification of a claim for the state. Takes the values of `persistence`. */}}
{{- define "datarobot-exporter.claim" -}}
accessModes:
  {{- toYaml .accessModes | nindent 2 }}
{{- with .storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}

{{/* volumeClaimTemplates of the shards; empty without persistence. */}}
{{- define "datarobot-exporter.claimTemplates" -}}
{{- with .Values.persistence }}
{{- if .enabled -}}
- metadata:
    name: state
    labels:
      {{- include "datarobot-exporter.selectorLabels" $ | nindent 6 }}
    {{- with .annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    {{- include "datarobot-exporter.claim" . | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Short enough for a label, to which Kubernetes appends the hash of a revision. */}}
{{- define "datarobot-exporter.statefulSetName" -}}
{{- include "datarobot-exporter.fullname" . | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{/* The headless Service that gives each shard a DNS name. */}}
{{- define "datarobot-exporter.shardsServiceName" -}}
{{- printf "%s-shards" (include "datarobot-exporter.statefulSetName" .) -}}
{{- end }}

{{/* URLs that `helm test` checks, one a line: the Service, or each shard by its DNS name. */}}
{{- define "datarobot-exporter.urls" -}}
{{- $scheme := include "datarobot-exporter.scheme" . -}}
{{- if .Values.sharding.enabled -}}
{{- range $index := until (int .Values.sharding.shards) }}
{{ $scheme }}://{{ include "datarobot-exporter.statefulSetName" $ }}-{{ $index }}.{{ include "datarobot-exporter.shardsServiceName" $ }}:{{ include "datarobot-exporter.port" $ }}
{{- end }}
{{- else }}
{{ $scheme }}://{{ include "datarobot-exporter.fullname" . }}:{{ .Values.service.port }}
{{- end }}
{{- end }}

{{/* The Secret of the tokens: the user's, or the chart's. */}}
{{- define "datarobot-exporter.secretName" -}}
{{- .Values.credentials.existingSecret | default (include "datarobot-exporter.fullname" .) -}}
{{- end }}

{{/* Accounts whose token is in that Secret, with its key there, as YAML. */}}
{{- define "datarobot-exporter.secretAccounts" -}}
{{- $keys := dict -}}
{{- range $account := (.Values.config).accounts | default list -}}
{{- $authorization := $account.authorization | default dict -}}
{{- if not (or $authorization.credentials_file $authorization.credentials_env $authorization.credentials) -}}
{{- $_ := set $keys $account.name (index $.Values.credentials.keys $account.name | default $account.name) -}}
{{- end -}}
{{- end -}}
{{- toYaml $keys -}}
{{- end }}

{{/* The exporter's configuration file: the user's, with the paths that the chart sets. */}}
{{- define "datarobot-exporter.config" -}}
{{- $config := deepCopy (.Values.config | default dict) -}}
{{- $ofSecret := include "datarobot-exporter.secretAccounts" . | fromYaml -}}
{{- range $account := $config.accounts | default list -}}
{{- if hasKey $ofSecret $account.name -}}
{{- $file := printf "%s/%s" (include "datarobot-exporter.tokensDirectory" $) $account.name -}}
{{- $_ := set $account "authorization" (set ($account.authorization | default dict) "credentials_file" $file) -}}
{{- end -}}
{{- end -}}
{{- with include "datarobot-exporter.stateDirectory" . -}}
{{- $_ := set $config "state" (set ($config.state | default dict) "directory" .) -}}
{{- end -}}
{{- if .Values.webConfig.existingSecret -}}
{{- $file := printf "%s/%s" (include "datarobot-exporter.webConfigDirectory" .) .Values.webConfig.key -}}
{{- $_ := set $config "web" (set ($config.web | default dict) "config_file" $file) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* Refuse values that give a pod which cannot work. Reports all errors at once. */}}
{{- define "datarobot-exporter.check" -}}
{{- $errors := list -}}
{{- $credentials := .Values.credentials -}}
{{- $accounts := (.Values.config).accounts | default list -}}
{{- $ofSecret := include "datarobot-exporter.secretAccounts" . | fromYaml -}}
{{- if not .Values.image.repository -}}
{{- $errors = append $errors "image.repository is empty; expected the image that you built from the Dockerfile" -}}
{{- end -}}
{{- range $index, $account := $accounts -}}
{{- if ($account.authorization | default dict).credentials -}}
{{- $errors = append $errors (printf "config.accounts[%d].authorization.credentials would put a token into a ConfigMap; expected credentials.existingSecret, or credentials.tokens.%s" $index $account.name) -}}
{{- end -}}
{{- end -}}
{{- if and $credentials.existingSecret $credentials.tokens -}}
{{- $errors = append $errors "credentials.existingSecret and credentials.tokens are both set; expected one of them" -}}
{{- end -}}
{{- if not $credentials.existingSecret -}}
{{- range $name := keys $ofSecret | sortAlpha -}}
{{- if not (hasKey $credentials.tokens $name) -}}
{{- $errors = append $errors (printf "the account %s has no token; expected credentials.existingSecret, credentials.tokens.%s, or an authorization of its own" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key := list "keys" "tokens" -}}
{{- range $name := keys (index $credentials $key) | sortAlpha -}}
{{- if not (hasKey $ofSecret $name) -}}
{{- $errors = append $errors (printf "credentials.%s.%s matches no account that needs a token; expected a name from config.accounts" $key $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ownWebConfig := (((.Values.config).web | default dict).config_file) -}}
{{- if and .Values.webConfig.existingSecret $ownWebConfig -}}
{{- $errors = append $errors "webConfig.existingSecret and config.web.config_file are both set; expected one of them" -}}
{{- end -}}
{{- if and .Values.webConfig.tls (not (or .Values.webConfig.existingSecret $ownWebConfig)) -}}
{{- $errors = append $errors "webConfig.tls is set without a web configuration file; expected webConfig.existingSecret, or config.web.config_file" -}}
{{- end -}}
{{- if and .Values.webConfig.clientCertificates (not .Values.webConfig.tls) -}}
{{- $errors = append $errors "webConfig.clientCertificates is set without webConfig.tls; expected both, or neither" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.basicAuth .Values.serviceMonitor.authorization -}}
{{- $errors = append $errors "serviceMonitor.basicAuth and serviceMonitor.authorization are both set; expected one of them" -}}
{{- end -}}
{{- if and .Values.sharding.enabled .Values.persistence.existingClaim -}}
{{- $errors = append $errors "persistence.existingClaim is one volume, and sharding.enabled needs one for each shard; expected no persistence.existingClaim" -}}
{{- end -}}
{{- if .Values.sharding.enabled -}}
{{- $name := include "datarobot-exporter.statefulSetName" . -}}
{{- $installed := dig "metadata" "annotations" "checksum/claims" "" (lookup "apps/v1" "StatefulSet" .Release.Namespace $name) -}}
{{- if and $installed (ne $installed (include "datarobot-exporter.claimTemplates" . | sha256sum)) -}}
{{- $errors = append $errors (printf "persistence has changed, but Kubernetes does not allow to change the volume claims of a StatefulSet; expected the former values, or another upgrade after `kubectl -n %s delete statefulset %s --cascade=orphan`, which leaves pods and volumes in place" .Release.Namespace $name) -}}
{{- end -}}
{{- end -}}
{{- if and $credentials.keys (not $credentials.existingSecret) -}}
{{- $errors = append $errors "credentials.keys is set without credentials.existingSecret; expected both, or neither" -}}
{{- end -}}
{{- if and $credentials.existingSecret (not $ofSecret) -}}
{{- $errors = append $errors "credentials.existingSecret is set, but no account needs it; expected accounts in config.accounts" -}}
{{- end -}}
{{- if not $accounts -}}
{{- $given := false -}}
{{- range .Values.extraEnv -}}
{{- if eq .name "DATAROBOT_API_TOKEN" -}}{{- $given = true -}}{{- end -}}
{{- end -}}
{{- if not (or $given .Values.extraEnvFrom) -}}
{{- $errors = append $errors "there is no account; expected some in config.accounts, or the variable DATAROBOT_API_TOKEN in extraEnv" -}}
{{- end -}}
{{- end -}}
{{- if $errors -}}
{{- fail (printf "\n- %s" (join "\n- " $errors)) -}}
{{- end -}}
{{- end }}
