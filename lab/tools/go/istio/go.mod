module istio-vms/lab/tools/istio

go 1.26.0

require (
	istio.io/istio v0.0.0-20260826214018-9739e10eb9d7
	istio.io/api v1.30.8
	istio.io/client-go v1.30.8
	github.com/envoyproxy/go-control-plane/envoy v1.37.1-0.20260729145720-a2d8c7492908
	github.com/envoyproxy/go-control-plane/contrib v1.36.1-0.20260729145720-a2d8c7492908
)

replace github.com/agentgateway/agentgateway/api => github.com/agentgateway/agentgateway/api v0.0.0-20260501213430-773586679f1c
