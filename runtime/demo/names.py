"""Names that nobody has heard of, so that a model learns to copy a name instead of knowing it."""

from __future__ import annotations

from random import Random


def _split(text: str) -> list[str]:
    return text.split()


HEADS = _split(
    "B C D F G H J K L M N P R S T V W Z Bl Br Ch Dr Fl Fr Gl Gr Kl Kr Pl Qu Sh Sk Sl Sp St Th Tr Tw Wh A E I O U Y"
)
INNER = _split(
    "b c d f g h j k l m n p r s t v w x z bl br ch ck dr ff gl gr ll lm ln mb mp nd ng nk nt rd rk rn rt sh sk th tr"
)
VOWELS = _split("a a a a e e e e i i i i o o o u u y ai au ea ee ei ie io oa oo ou á ä é ó ö ü")
ENDS = _split(
    "a o i e burg ville ton field ford stad grad pur abad ia is an en on ino ona or as heim ham by ville port"
)
BEFORE = ["New", "San", "Saint", "Port", "Los", "El", "North", "Upper", "Lake", "St."]
BETWEEN = ["de", "del", "upon", "am", "la", "sur"]


def word(rng: Random) -> str:
    """One capitalised word of 2 to about 14 letters."""
    parts = [rng.choice(HEADS)]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        parts += [rng.choice(VOWELS if parts[-1][-1] not in "aeiouyAEIOUY" else INNER), rng.choice(INNER)]
    text = "".join(parts)
    return text + (rng.choice(ENDS) if rng.random() < 0.7 or len(text) < 3 else rng.choice("aeiou"))


def place(rng: Random) -> str:
    """A town: mostly one word, now and then two or three, with a hyphen, in capitals or small letters."""
    first, kind = word(rng), rng.random()
    if kind < 0.62:
        return first
    if kind < 0.72:
        return f"{rng.choice(BEFORE)} {first}"
    if kind < 0.80:
        return f"{first} {word(rng)}"
    if kind < 0.84:
        return f"{first} {rng.choice(BETWEEN)} {word(rng)}"
    if kind < 0.88:
        return f"{first}-{word(rng)}"
    if kind < 0.93:
        return f"{first}, {word(rng)}"
    return first.lower() if kind < 0.98 else first.upper()


def person(rng: Random) -> str:
    """A first name, mostly with a family name."""
    return word(rng) if rng.random() < 0.3 else f"{word(rng)} {word(rng)}"


def identifier(rng: Random) -> str:
    """A small word that means nothing, as in the name of a function."""
    return word(rng).lower().encode("ascii", "ignore").decode()
