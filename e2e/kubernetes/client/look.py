"""Pictures by openai-python: URL MODEL. Prints {"answers", "tokens", "refused"}: what is said of three pictures, how
many tokens one takes of a prompt, and the code with which an address in its place is refused."""

import base64
import json
import random
import struct
import sys
import zlib

import openai

SIDE = 56


def picture(seed: int) -> str:
    """The data URL of a PNG of noise."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = random.Random(seed)
    rows = b"".join(b"\0" + pixels.randbytes(3 * SIDE) for _ in range(SIDE))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0))
    file = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(file).decode()


def main() -> None:
    url, model = sys.argv[1:]
    client = openai.OpenAI(base_url=url, max_retries=0, timeout=60)  # its key is in OPENAI_API_KEY

    def ask(*addresses: str) -> tuple[str, int]:
        parts = [{"type": "image_url", "image_url": {"url": address}} for address in addresses]
        content = [*parts, {"type": "text", "text": "What is this?"}]
        messages = [{"role": "user", "content": content}]
        answer = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=24)  # type: ignore[arg-type]
        return str(answer.choices[0].message.content), answer.usage.prompt_tokens if answer.usage else 0

    _, bare = ask()
    said = [ask(picture(seed)) for seed in (1, 2, 3)]
    refused = ""
    try:
        ask("http://169.254.169.254/latest/meta-data")
    except openai.BadRequestError as error:
        refused = error.code or ""
    print(json.dumps({"answers": [text for text, _ in said], "tokens": said[0][1] - bare, "refused": refused}))


main()
