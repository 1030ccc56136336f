"""Who thinks and who acts: the turn loop, the roles, work orders to the Hands and their review."""
