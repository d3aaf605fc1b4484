"""The tables as Django sees them; i2i owns them."""
