"""Keys: what a dump is encrypted to, who signed a manifest, and until when."""
