"""Pictures by openai-python: URL MODEL. Prints {"likely", "tokens", "refused"}: how likely the first word is that is
said of each of three pictures, how many tokens one takes of a prompt, and the code with which an address in its place
is refused."""

import base64
import json
import struct
import sys
import zlib

import openai

SIDE = 56


COLOURS = (255, 0, 0), (255, 255, 255), (0, 0, 255)


def picture(*colour: int) -> str:
    """The data URL of a PNG of one colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = (b"\0" + bytes(colour) * SIDE) * SIDE
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0))
    file = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(file).decode()


def main() -> None:
    url, model = sys.argv[1:]
    client = openai.OpenAI(base_url=url, max_retries=0, timeout=60)  # its key is in OPENAI_API_KEY

    def ask(*addresses: str) -> tuple[float, int]:
        parts = [{"type": "image_url", "image_url": {"url": address}} for address in addresses]
        content = [*parts, {"type": "text", "text": "What is this?"}]
        messages = [{"role": "user", "content": content}]
        answer = client.chat.completions.create(
            model=model,
            messages=messages,  # type: ignore[arg-type]
            temperature=0,
            max_tokens=4,
            logprobs=True,
        )
        told = answer.choices[0].logprobs
        assert told is not None and told.content and answer.usage
        return told.content[0].logprob, answer.usage.prompt_tokens

    _, bare = ask()
    said = [ask(picture(*colour)) for colour in COLOURS]
    refused = ""
    try:
        ask("http://169.254.169.254/latest/meta-data")
    except openai.BadRequestError as error:
        refused = error.code or ""
    print(json.dumps({"likely": [likely for likely, _ in said], "tokens": said[0][1] - bare, "refused": refused}))


main()
