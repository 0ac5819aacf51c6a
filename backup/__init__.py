"""The backup stream: dump, encrypt, upload, catalogue, restore, drill."""
