"""Stand-ins for Pulumi's `kubernetes` and `command` provider plugins, for places where the official ones cannot be downloaded."""
