"""The pure core: what was observed goes in, what is to be written comes out. No I/O, no clock."""
