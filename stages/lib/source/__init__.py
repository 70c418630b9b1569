"""Where the raw files come from, and what format they have."""
