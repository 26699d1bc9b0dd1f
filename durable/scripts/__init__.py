"""Programs as they are, run durably: scripts, modules and workflows that a command names."""
