"""Ask without a pause until /tmp/stop exists: URL STREAMS. Prints `going`, then {"requests", "failures", "longest"}.

A request is a stream over a connection of its own, so that each is balanced anew. It succeeded when it had status 200,
pieces of an answer, and `data: [DONE]` at the end.
"""

import http.client
import json
import os
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

STOP = Path("/tmp/stop")
KEY = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
KNOWN_SECONDS = 20
"""By then each node knows of a replica that has just become ready; until it does, it refuses connections."""
LONG = 150
"""Tokens of an answer: it takes long enough to be running when its replica is told to end."""


class Traffic:
    """What all threads found."""

    def __init__(self, url: str) -> None:
        self.place, self.base = urlsplit(url).netloc, urlsplit(url).path
        self.requests, self.failures, self.longest = 0, list[str](), 0.0
        self._lock = threading.Lock()

    def ask_on(self, model: str) -> None:
        while not STOP.exists():
            began = time.monotonic()
            try:
                failure = self.ask(model)
            except (OSError, http.client.HTTPException) as error:
                failure = f"{type(error).__name__}: {error}"
            took = time.monotonic() - began
            with self._lock:
                self.requests += 1
                self.longest = max(self.longest, took)
                if failure:
                    self.failures.append(f"{time.strftime('%H:%M:%S')} after {took:.2f} s: {failure}")
                    time.sleep(0.2)

    def ask(self, model: str) -> str:
        """What was wrong with one stream; empty when nothing."""
        question = {"role": "user", "content": "What is LLMService?"}
        body = {"model": model, "messages": [question], "max_tokens": LONG, "ignore_eos": True, "stream": True}
        connection = http.client.HTTPConnection(self.place, timeout=60)
        try:
            headers = {"Content-Type": "application/json", **KEY}
            connection.request("POST", f"{self.base}/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            lines = [line for line in answer.read().decode().splitlines() if line.startswith("data: ")]
        finally:
            connection.close()
        whole = answer.status == 200 and len(lines) > 2 and lines[-1] == "data: [DONE]"
        return "" if whole else f"status {answer.status}, {len(lines)} events, last: {lines[-1:]}"


def first_model(traffic: Traffic) -> str:
    """Of those that are served there."""
    until = time.monotonic() + KNOWN_SECONDS
    while True:
        connection = http.client.HTTPConnection(traffic.place, timeout=30)
        try:
            connection.request("GET", f"{traffic.base}/models", headers=KEY)
            return str(json.load(connection.getresponse())["data"][0]["id"])
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def main() -> None:
    url, streams = sys.argv[1], int(sys.argv[2])
    STOP.unlink(missing_ok=True)
    traffic = Traffic(url)
    model = first_model(traffic)
    if failure := traffic.ask(model):
        raise SystemExit(failure)
    print("going", flush=True)
    threads = [threading.Thread(target=traffic.ask_on, args=(model,)) for _ in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"requests": traffic.requests, "failures": traffic.failures, "longest": traffic.longest}))


main()
