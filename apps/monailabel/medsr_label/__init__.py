"""What the MONAI Label app of medsr-monai consists of."""
