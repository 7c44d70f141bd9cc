"""The plan: a pure function of spec, model facts and machine facts, used by every program that places a model."""
