"""What the stages share: small modules, each named for what it holds."""
