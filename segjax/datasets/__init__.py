"""How data sets are made: annotation formats, checks, public sets, your own folder, splits and storage."""
