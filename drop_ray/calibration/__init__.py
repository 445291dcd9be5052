"""From texts and datasets to packed token samples."""
