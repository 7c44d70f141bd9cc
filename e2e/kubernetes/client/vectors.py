"""Vectors by openai-python, and what a reranker would be asked: URL MODEL TEXT... Prints {"likeness", "refused"}: how
like the first text each of the others is, and the code with which a model that does not rerank refuses to."""

import json
import sys

import openai


def main() -> None:
    url, model, *texts = sys.argv[1:]
    client = openai.OpenAI(base_url=url, max_retries=0, timeout=60)  # its key is in OPENAI_API_KEY
    first, *others = (each.embedding for each in client.embeddings.create(model=model, input=texts).data)
    likeness = [sum(a * b for a, b in zip(first, vector, strict=True)) for vector in others]
    refused = ""
    try:
        client.post("/rerank", body={"model": model, "query": texts[0], "documents": texts[1:]}, cast_to=object)
    except openai.APIStatusError as error:
        refused = error.code or ""
    print(json.dumps({"likeness": likeness, "refused": refused}))


main()
