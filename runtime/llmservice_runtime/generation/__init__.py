"""What every batching engine of ours needs: stops, streams, grammars, samplers."""
