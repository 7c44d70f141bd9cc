"""What every batching engine of ours needs: answers with their stops, streams, grammars and samplers."""
