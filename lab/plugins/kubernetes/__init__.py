"""Stand-in for pulumi-kubernetes: plain and custom resources by server-side apply, and Helm releases."""
