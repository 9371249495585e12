{{- define "onceserve.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "onceserve.operatorName" -}}
{{ include "onceserve.fullname" . }}-operator
{{- end -}}

{{- define "onceserve.leaseRole" -}}
{{ include "onceserve.operatorName" . }}-lease
{{- end -}}

{{- define "onceserve.storeName" -}}
{{ include "onceserve.fullname" . }}-store
{{- end -}}

{{- define "onceserve.verificationName" -}}
{{- default (printf "%s-verification" (include "onceserve.fullname" .)) .Values.operator.verificationSecret -}}
{{- end -}}

{{- define "onceserve.storeSelector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: store
{{- end -}}

{{- define "onceserve.serviceAccountName" -}}
{{- default (ternary (include "onceserve.operatorName" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "onceserve.labels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: onceserve
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "onceserve.operatorSelector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- /* Takes a list: the image's values and the chart's appVersion. */ -}}
{{- define "onceserve.image" -}}
{{- $image := index . 0 -}}
{{ $image.repository }}:{{ default (index . 1) $image.tag }}
{{- end -}}

{{- /*
The one table of the operator's rights, for a ClusterRole as for a Role. Server-side apply is a patch that also needs
`create` where the object is new; `delete` prunes what a ModelDeployment no longer wants.
*/ -}}
{{- define "onceserve.operatorRules" -}}
- apiGroups: [onceserve.dev]
  resources: [modeldeployments]
  verbs: [list, watch]
- apiGroups: [onceserve.dev]
  resources: [modeldeployments/status]
  verbs: [patch]
# Written by autoscaling alone.
- apiGroups: [onceserve.dev]
  resources: [modeldeployments/scale]
  verbs: [patch]
# Where OwnerReferencesPermissionEnforcement is on, as in OpenShift, children may block the deletion of their owner
# only by the hand of someone who may set its finalizers.
- apiGroups: [onceserve.dev]
  resources: [modeldeployments/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [controllerrevisions, deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
# Listed now and then, where there are any: a watch of what may be missing would fail.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, create, patch, delete]
# Always wanted, so that their owner's deletion alone takes them away.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- define "onceserve.operatorSubject" -}}
- kind: ServiceAccount
  name: {{ include "onceserve.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
