"""What every page uses: the open store, filters, cached loaders, the frame."""
