"""Running adapters on one base model: its prefixes computed once, each adapter's suffix on merged weights."""
