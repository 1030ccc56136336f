"""What the seedling is to be taught with. Not shipped; made of the house's own prompts, so it stands above `agents`."""
