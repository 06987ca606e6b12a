"""What the hardware's makers say of it: catalogues as CSV, and the loader that matches driver names."""
