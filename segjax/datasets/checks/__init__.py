"""Checks of images and masks: they name damage, repair it where that is safe, and delete nothing."""
