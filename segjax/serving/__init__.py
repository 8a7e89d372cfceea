"""A local page and an HTTP interface that segment images, show the effect of settings, and correct cells."""
