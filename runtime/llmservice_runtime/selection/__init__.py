"""Engine choice: which engine may run a model, which one does, and why not the others."""
