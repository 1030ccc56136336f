"""Golden log, dream, integrate, gate, generations. Nothing is built here yet."""
