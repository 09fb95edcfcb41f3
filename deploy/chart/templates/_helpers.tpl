{{/* "true" if the image with the iptables programs is used, else empty. */}}
{{- define "rulegen.iptablesPrograms" -}}
{{- if or .Values.iptablesPrograms (eq .Values.mode "iptables") }}true{{ end }}
{{- end }}

{{/* The values of the image in use, as YAML. */}}
{{- define "rulegen.imageValues" -}}
{{- if include "rulegen.iptablesPrograms" . }}{{ toYaml .Values.iptablesImage }}{{ else }}{{ toYaml .Values.image }}{{ end }}
{{- end }}

{{- define "rulegen.image" -}}
{{- $image := include "rulegen.imageValues" . | fromYaml }}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* The configuration, as YAML: that of the kustomization with the chart's values. */}}
{{- define "rulegen.config" -}}
{{- $config := .Files.Get "files/config.conf" | fromYaml }}
{{- $_ := set $config "clusterCIDR" .Values.clusterCIDR }}
{{- toYaml (mergeOverwrite $config .Values.config) }}
{{- end }}

{{/* The kubeconfig, as YAML. */}}
{{- define "rulegen.kubeconfig" -}}
{{- $kubeconfig := .Files.Get "files/kubeconfig.conf" | fromYaml }}
{{- $_ := set (first $kubeconfig.clusters).cluster "server" .Values.apiServer }}
{{- toYaml $kubeconfig }}
{{- end }}

{{/*
The name of the ConfigMap contains a hash of its content, so a change of the configuration changes the DaemonSet,
which rolls it out node by node.
*/}}
{{- define "rulegen.configMapName" -}}
{{- if .Values.kubeProxyConfigMap -}}
{{ .Values.kubeProxyConfigMap }}
{{- else -}}
rulegen-{{ list (include "rulegen.config" .) (include "rulegen.kubeconfig" .) | join "\n" | sha256sum | trunc 10 }}
{{- end }}
{{- end }}

{{/* The port of healthzBindAddress, if it has one: probes need it. */}}
{{- define "rulegen.healthzPort" -}}
{{- $address := (include "rulegen.config" . | fromYaml).healthzBindAddress | default "" }}
{{- if and (not .Values.kubeProxyConfigMap) (regexMatch "^([^:]*|\\[.*\\]):[0-9]+$" $address) }}
{{- $address | splitList ":" | last }}
{{- end }}
{{- end }}
