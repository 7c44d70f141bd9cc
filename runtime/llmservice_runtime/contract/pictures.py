"""What a picture may be at most. All of it is looked at before a picture is unpacked."""

MOST_PICTURES = 16
"""In one request."""
TOGETHER = MOST_PICTURES
"""That are looked at together, of all requests; some 10 MiB each as encoders take them. More would not be computed
sooner: one is, at a time."""
MOST_BYTES = 20 << 20
"""Of one picture, as its file has them."""
MOST_PIXELS = 1 << 24
"""4096 x 4096: what a telephone takes, and 64 MiB when it is unpacked."""
KEPT_PIXELS = 1 << 22
"""2048 x 2048: no encoder sees more. A larger picture is made smaller, so that its pixels are not carried about."""
MOST_SIDE = 16_384
"""Pixels in a row, or rows."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""Of an animation the first picture counts."""
UNPACKED = 352 << 20
"""Bytes of the process that unpacks one, at most: WebP's own library has a picture of MOST_PIXELS three times, beside
what Pillow makes of it. A test holds it against that process."""


def shown_tokens(context_tokens: int, picture_tokens: int) -> int:
    """Tokens of pictures that all requests have together at most, or one of them alone: others wait until it ends.
    `picture_tokens`: of one picture."""
    return min(context_tokens, MOST_PICTURES * picture_tokens)
