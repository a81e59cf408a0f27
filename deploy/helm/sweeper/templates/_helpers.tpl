{{/*
The name of all objects: that of the release, with "sweeper" in it. A CronJob's name may have 52 characters, and the
name of the release 53.
*/}}
{{- define "sweeper.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- .Values.fullnameOverride | default $name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* The labels by which pods are found. Call it with (dict "root" . "component" NAME). */}}
{{- define "sweeper.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The labels of an object. */}}
{{- define "sweeper.labels" -}}
{{ include "sweeper.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The labels and annotations of a pod. */}}
{{- define "sweeper.podMetadata" -}}
labels:
  {{- include "sweeper.selector" . | nindent 2 }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The first rule of a Job for pods that end. */}}
{{- define "sweeper.disruption" -}}
# The pod was evicted, or its node is being drained: it did not fail, so it starts again.
- action: Ignore
  onPodConditions:
    - type: DisruptionTarget
      status: "True"
{{- end }}

{{/*
The specification of a pod. Call it with (dict "root" . "args" LIST "restart" POLICY), and "deadline" HOURS,
"shards" COUNT or "ports" true where they apply.
*/}}
{{- define "sweeper.pod" -}}
{{- $values := .root.Values -}}
{{- $release := $values.cvat.release -}}
restartPolicy: {{ .restart }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
# As in CVAT's chart. There is no fsGroup, which would change the group of every file.
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  seccompProfile:
    type: RuntimeDefault
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if .shards }}
# On different machines, if there are several.
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "sweeper.selector" (dict "root" .root "component" "shards") | nindent 8 }}
{{- end }}
containers:
  - name: sweeper
    image: {{ printf "%s:%s" $values.image.repository ($values.image.tag | default .root.Chart.AppVersion) | quote }}
    {{- with $values.image.pullPolicy }}
    imagePullPolicy: {{ . }}
    {{- end }}
    args: {{- toYaml .args | nindent 6 }}
    env:
      - name: CVAT_REDIS_INMEM_HOST
        value: {{ $values.cvat.redis.host | default (printf "%s-redis-master" $release) | quote }}
      - name: CVAT_REDIS_INMEM_PORT
        value: {{ $values.cvat.redis.port | quote }}
      - name: CVAT_REDIS_INMEM_PASSWORD
        valueFrom:
          secretKeyRef:
            name: {{ $values.cvat.redis.secret | default (printf "%s-redis-secret" $release) }}
            key: {{ $values.cvat.redis.key }}
      {{- with .deadline }}
      # Ends before the job does, so that the report is printed.
      - name: SWEEPER_DEADLINE
        value: {{ printf "%vh" . }}
      {{- end }}
      {{- with .shards }}
      # Kubernetes adds this variable too, but at the end of the list, and a variable can only be used in
      # those below it.
      - name: JOB_COMPLETION_INDEX
        valueFrom:
          fieldRef:
            fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
      - name: SWEEPER_SHARD
        value: $(JOB_COMPLETION_INDEX)/{{ . }}
      {{- end }}
      {{- range $name, $value := $values.env }}
      - name: {{ $name }}
        value: {{ $value | quote }}
      {{- end }}
    {{- if .ports }}
    ports:
      - name: metrics
        containerPort: 9108
    # An unhealthy service is shown as not ready. It is not restarted: that would not help.
    readinessProbe:
      httpGet:
        path: /healthz
        port: metrics
      periodSeconds: 30
      timeoutSeconds: 5
      failureThreshold: 2
    {{- end }}
    resources: {{- toYaml $values.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    volumeMounts:
      # The same path as in CVAT's pods: the keys of CVAT's locks contain it.
      - name: data
        mountPath: /home/django/data
        {{- with $values.cvat.subPath }}
        subPath: {{ . }}
        {{- end }}
volumes:
  - name: data
    persistentVolumeClaim:
      claimName: {{ $values.cvat.claim | default (printf "%s-backend-data" $release) }}
{{- end }}
