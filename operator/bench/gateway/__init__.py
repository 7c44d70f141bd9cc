"""What a proxy costs for each chunk of a stream, and adds to the first: ours beside others', in one run."""
