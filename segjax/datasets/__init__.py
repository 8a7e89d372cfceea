"""Making of data sets: annotation formats, checks, public sets, your own folder, splits and storage."""
