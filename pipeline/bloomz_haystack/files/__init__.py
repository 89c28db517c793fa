"""What several rooms need of files: `provenance` (SHA-256, git commit, versions) and `squad` (the one SQuAD reader)."""
