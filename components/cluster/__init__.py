"""The Kubernetes cluster: machines in, kubeconfig and provider out."""
