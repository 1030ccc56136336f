"""The Hands beyond the calling client: a headless Claude Code, an API model; what they get and what comes back."""
