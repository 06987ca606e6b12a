"""What people look at. Only this file lies here: pages are one folder deeper, which is a security rule."""
