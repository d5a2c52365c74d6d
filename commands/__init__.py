"""What people type: `istio-vms up`, and `make up` for it. Each command is a function; `__main__.py` lists them."""
