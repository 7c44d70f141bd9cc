"""What a picture may be at most. All of it is looked at before a picture is unpacked."""

MOST_PICTURES = 16
"""In one request."""
MOST_BYTES = 20 << 20
"""Of one picture, as its file has them."""
MOST_PIXELS = 1 << 24
"""4096 x 4096: what a telephone takes, and 64 MiB when it is unpacked."""
MOST_SIDE = 16_384
"""Pixels in a row, or rows."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""Of an animation the first picture counts."""
