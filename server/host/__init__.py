"""What the operating system gives: files that are read in bounded time, and the limits of control groups."""
