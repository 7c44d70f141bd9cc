"""Ask a service one question with openai-python: URL QUESTION stream|whole. Prints {"answer", "finish", "pieces"}."""

import json
import sys

import openai


def main() -> None:
    url, question, how = sys.argv[1:]
    client = openai.OpenAI(base_url=url, max_retries=0, timeout=30)  # its key is in OPENAI_API_KEY
    model = client.models.list().data[0].id
    found = streamed(client, model, question) if how == "stream" else whole(client, model, question)
    print(json.dumps(found))


def whole(client: openai.OpenAI, model: str, question: str) -> dict[str, object]:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0
    ).choices[0]
    return {"answer": answer.message.content, "finish": answer.finish_reason, "pieces": 1}


def streamed(client: openai.OpenAI, model: str, question: str) -> dict[str, object]:
    pieces, finish = [], None
    for chunk in client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, stream=True
    ):
        for choice in chunk.choices:
            pieces += [choice.delta.content] if choice.delta.content else []
            finish = choice.finish_reason or finish
    return {"answer": "".join(pieces), "finish": finish, "pieces": len(pieces)}


main()
