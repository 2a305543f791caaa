{{/* The pod template of the Deployment, and of the StatefulSet if there are shards. */}}
{{- define "datarobot-exporter.pod" -}}
{{- $ofSecret := include "datarobot-exporter.secretAccounts" . | fromYaml -}}
{{- $stateDirectory := include "datarobot-exporter.stateDirectory" . -}}
metadata:
  labels:
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "datarobot-exporter.podLabels" . | nindent 4 }}
  annotations:
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    # A changed configuration restarts the pod.
    checksum/config: {{ include "datarobot-exporter.config" . | sha256sum }}
    {{- with .Values.credentials.tokens }}
    checksum/secret: {{ toJson . | sha256sum }}
    {{- end }}
spec:
  serviceAccountName: {{ include "datarobot-exporter.serviceAccountName" . }}
  automountServiceAccountToken: false
  # A Service called datarobot-exporter would become variables that look like the exporter's own.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: exporter
      image: {{ include "datarobot-exporter.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - --config.file=/etc/datarobot-exporter/config.yaml
        {{- if .Values.sharding.enabled }}
        - --shard.total={{ .Values.sharding.shards }}
        {{- end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if or .Values.sharding.enabled .Values.extraEnv }}
      env:
        {{- if .Values.sharding.enabled }}
        # The pod's name ends with its number.
        - name: DATAROBOT_EXPORTER_SHARD_INDEX
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ include "datarobot-exporter.port" . }}
          protocol: TCP
      {{- with .Values.livenessProbe }}
      livenessProbe:
        {{- $exec := dict "exec" (dict "command" (list "datarobot-exporter" "--config.file=/etc/datarobot-exporter/config.yaml" "health")) }}
        {{- include "datarobot-exporter.probe" (list $.Values . $exec) | nindent 8 }}
      {{- end }}
      {{- with .Values.readinessProbe }}
      readinessProbe:
        {{- include "datarobot-exporter.probe" (list $.Values . (dict "tcpSocket" (dict "port" "http"))) | nindent 8 }}
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      # Directories, not single files: only directories follow a change of their ConfigMap or Secret.
      volumeMounts:
        - name: config
          mountPath: /etc/datarobot-exporter
          readOnly: true
        {{- if $ofSecret }}
        - name: tokens
          mountPath: {{ include "datarobot-exporter.tokensDirectory" . }}
          readOnly: true
        {{- end }}
        {{- if .Values.webConfig.existingSecret }}
        - name: web-config
          mountPath: {{ include "datarobot-exporter.webConfigDirectory" . }}
          readOnly: true
        {{- end }}
        {{- with $stateDirectory }}
        - name: state
          mountPath: {{ . }}
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "datarobot-exporter.fullname" . }}
    {{- if $ofSecret }}
    - name: tokens
      secret:
        secretName: {{ include "datarobot-exporter.secretName" . }}
        defaultMode: 0440
        items:
          {{- range $account, $key := $ofSecret }}
          - key: {{ $key | quote }}
            path: {{ $account | quote }}
          {{- end }}
    {{- end }}
    {{- with .Values.webConfig.existingSecret }}
    - name: web-config
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- if and $stateDirectory (not (and .Values.sharding.enabled .Values.persistence.enabled)) }}
    - name: state
      {{- if .Values.persistence.enabled }}
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim | default (include "datarobot-exporter.fullname" .) }}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  {{- $selector := dict "labelSelector" (dict "matchLabels" (include "datarobot-exporter.selectorLabels" $ | fromYaml)) }}
  topologySpreadConstraints:
    {{- range . }}
    - {{- toYaml (ternary . (merge (omit . "labelSelector") $selector) (not (empty .labelSelector))) | nindent 6 }}
    {{- end }}
  {{- end }}
{{- end }}
