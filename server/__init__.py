"""What a client touches: the `soul` command, the bridge, the daemon, HTTP, settings.

Imports nothing: the bridge goes through here before it answers the handshake.
"""

VERSION = "0.1.0"
"""The same as in pyproject.toml (a test compares them); reading package metadata would cost the bridge 20 ms."""
