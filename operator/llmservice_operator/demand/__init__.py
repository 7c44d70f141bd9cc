"""What services are asked for, and what is decided by it: pure, the clock is passed in."""
