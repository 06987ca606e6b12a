"""The machine itself: sockets, memory, disks, network, as the kernel shows them."""
