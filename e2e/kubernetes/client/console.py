"""What a page would ask: BASE_URL NAMESPACE/NAME [SECONDS]. Prints {"page", "files", "names", "service", "columns"}."""

import json
import os
import re
import sys
import urllib.request
from typing import Any

KEY = os.environ["OPENAI_API_KEY"]


def read(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        found: str = answer.read().decode()
    return found


def main() -> None:
    base, name, seconds = (*sys.argv[1:], "3600")[:3]

    def told(path: str) -> Any:
        return json.loads(read(f"{base}/-/api/{path}", Authorization=f"Bearer {KEY}"))

    page = read(f"{base}/", Accept="text/html")
    files = [read(base + path) for path in re.findall(r'(?:src|href)="(/-/[^"]+)"', page)]
    print(
        json.dumps(
            {
                "page": page,
                "files": len(files),
                "names": [one["name"] for one in told("services")["services"]],
                "service": told(f"services/{name}"),
                "columns": told(f"services/{name}/history?seconds={seconds}")["columns"],
            }
        )
    )


main()
