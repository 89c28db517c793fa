"""What several rooms need of files: `provenance` (SHA-256, git commit, versions), `json_values` (checked JSON) and
`squad` (the one SQuAD reader).
"""
