"""What Vatio costs the machine it watches, beside its peers in the same run."""
