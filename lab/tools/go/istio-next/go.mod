module istio-vms/lab/tools/istio-next

go 1.26.0

require (
	istio.io/istio v0.0.0-20260827124520-eed52ebb66ad
	istio.io/api v1.31.1
	istio.io/client-go v1.31.1
	github.com/envoyproxy/go-control-plane/envoy v1.37.1-0.20260729145720-a2d8c7492908
	github.com/envoyproxy/go-control-plane/contrib v1.36.1-0.20260729145720-a2d8c7492908
)
