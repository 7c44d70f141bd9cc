"""Names that nobody has heard of, so that a model learns to copy a name instead of knowing it."""

from __future__ import annotations

from random import Random


def _split(text: str) -> list[str]:
    return text.split()


HEADS = _split(
    "B C D F G H J K L M N P R S T V W Z Bl Br Ch Dr Fl Fr Gl Gr Kl Kr Pl Qu Sh Sk Sl Sp St Th Tr Tw Wh A E I O U Y"
)
INNER = _split(
    "b c d f g h j k l m n p r s t v w x z ß ç bl br ch ck dr ff gl gr ll lm ln mb mp nd ng nk nt rd rk rn rt sh sk th "
    "tr"
)
VOWELS = _split("a a a a e e e e i i i i o o o u u y ai au ea ee ei ie io oa oo ou á ä é é è ï ó ö ü")
ENDS = _split(
    "a o i e burg ville ton field ford stad grad pur abad ia is an en on ino ona or as heim ham by ville port"
)
BEFORE = ["New", "San", "Saint", "Port", "Los", "El", "North", "Upper", "Lake", "St."]
SIGNS = ["☕", "🚀", "—", "–", "✓", "♥", "😀", "→", "&", "+"]
ALPHABETS = (0x4E00, 0x6771, 0x4EAC, 0x5927, 0x3042, 0x0430, 0x03B1)
"""Where some begin: sixty letters from each."""
BETWEEN = ["de", "del", "upon", "am", "la", "sur"]


def word(rng: Random) -> str:
    """One capitalised word of 2 to about 14 letters."""
    parts = [rng.choice(HEADS)]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        parts += [rng.choice(VOWELS if parts[-1][-1] not in "aeiouyAEIOUY" else INNER), rng.choice(INNER)]
    text = "".join(parts)
    return text + (rng.choice(ENDS) if rng.random() < 0.7 or len(text) < 3 else rng.choice("aeiou"))


def place(rng: Random) -> str:
    """A town: mostly one word, now and then two or three, with a hyphen or in capitals."""
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
    return first if kind < 0.98 else first.upper()


def person(rng: Random) -> str:
    """A first name, mostly with a family name."""
    return word(rng) if rng.random() < 0.3 else f"{word(rng)} {word(rng)}"


def title(rng: Random) -> str:
    """One to three words, the first one in capitals."""
    later = (word(rng) if rng.random() < 0.4 else word(rng).lower() for _ in range(rng.choice((0, 1, 1, 2))))
    return " ".join((word(rng), *later))


def sentence(rng: Random) -> str:
    """Two to six words, signs and letters of other alphabets among them."""
    pieces = [word(rng)]
    for _ in range(rng.choice((1, 2, 3, 4, 5))):
        kind = rng.random()
        if kind < 0.2:
            pieces.append(rng.choice(SIGNS))
        elif kind < 0.4:
            pieces.append("".join(chr(rng.choice(ALPHABETS) + rng.randrange(60)) for _ in range(rng.choice((2, 3)))))
        else:
            pieces.append(word(rng) if kind < 0.6 else word(rng).lower())
    return " ".join(pieces)


def identifier(rng: Random) -> str:
    """A small word that means nothing, as in the name of a function."""
    return word(rng).lower().encode("ascii", "ignore").decode()
