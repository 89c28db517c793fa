"""Results folder -> `table`, `html`, `plots`, and the comparison with the published numbers (`expected`)."""
