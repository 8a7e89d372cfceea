"""Training losses: values per pixel (`pixel`), per class (`region`), and their weighted sum (`combine`)."""
