"""Engine choice: which engine runs a model on a machine, and why not the others. Pure rules over facts."""
