module istio-vms/lab/tools/images

go 1.23.0
