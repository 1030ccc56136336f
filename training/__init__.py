"""What the seedling is to be taught with. Not shipped: it needs the house's own prompts, so it stands above `agents`."""
