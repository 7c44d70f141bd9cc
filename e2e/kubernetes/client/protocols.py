"""One question in two protocols: URL MODEL QUESTION. Prints {"response", "message", "events"}: the answer by
openai-python's responses, as an Anthropic message with x-api-key, and the kinds of events of that message streamed."""

import http.client
import json
import os
import sys
import urllib.request

import openai


def main() -> None:
    url, model, question = sys.argv[1:]
    client = openai.OpenAI(base_url=url, max_retries=0, timeout=60)  # its key is in OPENAI_API_KEY
    response = client.responses.create(model=model, input=question, temperature=0)
    body = {"model": model, "max_tokens": 100, "temperature": 0, "messages": [{"role": "user", "content": question}]}
    with asked(url, body) as answer:
        message = json.loads(answer.read())["content"][0]["text"]
    with asked(url, body | {"stream": True}) as answer:
        events = [line.split()[1].decode() for line in answer if line.startswith(b"event: ")]
    print(json.dumps({"response": response.output_text, "message": message, "events": events}))


def asked(url: str, body: dict[str, object]) -> http.client.HTTPResponse:
    headers = {"Content-Type": "application/json", "x-api-key": os.environ["OPENAI_API_KEY"]}
    headers["anthropic-version"] = "2023-06-01"
    request = urllib.request.Request(f"{url}/messages", json.dumps(body).encode(), headers)
    answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=60)
    return answer


main()
