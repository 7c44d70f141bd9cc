"""What the tests on a whole cluster share."""
