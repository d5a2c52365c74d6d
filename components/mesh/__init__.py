"""Istio: the control plane and its gateways."""
