"""What several rooms need of files.

`provenance` (SHA-256, git commit, versions), `json_values` (checked JSON), `squad` (the one SQuAD reader),
`yaml_schema` (YAML checked against a type), `markdown` (tables), `printable` (text for terminals).
"""
