"""Engine environments: one virtual environment and one lock per engine."""
