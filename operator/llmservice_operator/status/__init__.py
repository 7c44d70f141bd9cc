"""Status: what pods, Jobs and refused writes mean, as conditions with reasons and remedies."""
