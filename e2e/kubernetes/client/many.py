"""Many requests at once: BASE_URL MODEL COUNT BYTES. Prints how many ended how: {"200": 100, "429 queue_full": 200}.

A server may answer, and close the connection, before it has read a whole request; whoever still sends then may never
see the answer: `unread`.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from urllib.parse import urlsplit

SECONDS = 240
PIECE = 64 << 10
KEY = os.environ.get("OPENAI_API_KEY", "none")


async def ask(place: str, path: str, body: memoryview) -> str:
    """How one request ended."""
    host, _, port = place.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port or 80), limit=1 << 20)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {place}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        writer.write(head.encode())
        for start in range(0, len(body), PIECE):
            writer.write(body[start : start + PIECE])
            await writer.drain()
    except OSError:
        pass  # it may have answered all the same
    try:
        answer = await reader.read()
    except OSError:
        return "unread"
    finally:
        writer.close()
    if not answer:
        return "unread"
    said = json.loads(answer[answer.index(b"\r\n\r\n") :])
    return f"{answer.split()[1].decode()} {said.get('error', {}).get('code', '')}".strip()


async def main() -> None:
    url, model, count, size = sys.argv[1:]
    parts = urlsplit(url)
    text = {"model": model, "messages": [{"role": "user", "content": "a" * int(size)}], "max_tokens": 4}
    body = memoryview(json.dumps(text).encode())
    asked = (ask(parts.netloc, f"{parts.path}/chat/completions", body) for _ in range(int(count)))
    print(json.dumps(Counter(await asyncio.wait_for(asyncio.gather(*asked), SECONDS))))


asyncio.run(main())
