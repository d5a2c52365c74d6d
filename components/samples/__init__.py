"""Samples that prove traffic: helloworld, a client pod, and the calls between them and the VMs."""
