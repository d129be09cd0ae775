"""What the commands share: options, and a fast exit."""
