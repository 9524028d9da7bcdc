"""What the checks stand on: processes, the command line, raw frames, load and its history."""
