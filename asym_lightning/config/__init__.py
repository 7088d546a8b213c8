"""From YAML to objects, and every refusal that needs no model."""
