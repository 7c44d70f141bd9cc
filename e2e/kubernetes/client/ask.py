"""One request, without retries: BASE_URL MODEL QUESTION. Prints {"status", "seconds", "answer", "code"}."""

import http.client
import json
import os
import sys
import time
from urllib.parse import urlsplit

SECONDS = 240


def main() -> None:
    url, model, question = sys.argv[1:]
    parts = urlsplit(url)
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0}
    connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
    began = time.monotonic()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    connection.request("POST", f"{parts.path}/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    print(
        json.dumps(
            {
                "status": answer.status,
                "seconds": time.monotonic() - began,
                "answer": said["choices"][0]["message"]["content"] if answer.status == 200 else "",
                "code": said.get("error", {}).get("code", ""),
            }
        )
    )


main()
