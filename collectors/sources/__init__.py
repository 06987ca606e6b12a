"""One file per vendor or protocol. Units are converted here, once; nothing here knows storage."""
