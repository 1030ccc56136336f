"""The MCP tools, one module each: contract, checks, a call into the house, nothing heavy."""
