"""From a user's folder of images and masks to a data set on disk.

The way of an image: `folder` lists it, `examination` reads it with its annotation, repairs what is safe and
sets aside the rest, `staging` keeps what came of it, `decisions` compares it with all others and gives it to
a split, and `builder` writes those that stay with TFDS.
"""
