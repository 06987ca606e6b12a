"""What this machine, its drivers and its servers say right now; the only writers of the store."""
