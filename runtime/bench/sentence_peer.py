"""Runs where PyTorch is: sentence-transformers, asked over a pipe. `python sentence_peer.py MODEL THREADS`.

A line of JSON in, `[texts]`; a line out, `[[number of texts, width, first vector]]`. No HTTP: that is in its favour.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Until the pipe ends."""
    import torch
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

    torch.set_num_threads(int(sys.argv[2]))
    model = SentenceTransformer(sys.argv[1], device="cpu")
    print("ready", flush=True)
    for line in sys.stdin:
        vectors = model.encode(json.loads(line), batch_size=32, show_progress_bar=False)
        print(json.dumps(vectors[0].tolist()), flush=True)


if __name__ == "__main__":
    main()
