"""So many requests to each gateway, one after the other: MODEL QUESTION COUNT URL... Prints [{status: count}]."""

import http.client
import json
import os
import sys
from collections import Counter
from urllib.parse import urlsplit


def main() -> None:
    model, question, count, *urls = sys.argv[1:]
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 1}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    found = []
    for url in urls:
        parts, statuses = urlsplit(url), Counter[str]()
        for _ in range(int(count)):
            connection = http.client.HTTPConnection(parts.netloc, timeout=60)
            connection.request("POST", f"{parts.path}/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            statuses[str(answer.status)] += 1
        found.append(statuses)
    print(json.dumps(found))


main()
