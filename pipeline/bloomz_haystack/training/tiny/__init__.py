"""How the two bundled models are made, and nothing else: `bundled.sh` runs all of it."""
