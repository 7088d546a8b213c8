"""Build objects from configs, and refuse invalid configs before a model is loaded."""
