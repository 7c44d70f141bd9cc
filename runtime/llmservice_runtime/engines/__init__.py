"""One folder per engine: its rules, arguments, memory, recipe and process."""
