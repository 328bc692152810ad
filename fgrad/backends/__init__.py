"""What runs programs on a device; a folder a target."""
