"""Stand-in for pulumi-command: commands run here, commands run over SSH, files copied over SSH."""
