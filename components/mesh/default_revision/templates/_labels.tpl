{{- /* istiod finds what it patches, and which revision is the default one, by these labels and by the objects' names. */}}
{{- define "default-revision.labels" -}}
istio.io/rev: {{ required "the revision" .Values.revision | quote }}
istio.io/tag: default
install.operator.istio.io/owning-resource: unknown
operator.istio.io/component: Pilot
release: {{ .Release.Name }}
app.kubernetes.io/name: istiod
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: istio
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
