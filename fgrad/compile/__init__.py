"""From jaxprs to programs that run: passes, and the executor. Knows no device and no primitive."""
