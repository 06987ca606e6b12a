"""What leaves the building: the weekly summary as files."""
