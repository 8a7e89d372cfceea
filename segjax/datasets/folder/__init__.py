"""A user's folder of images and masks as a data set on disk.

An image passes five stages: `image_files` lists it, `examination` reads it with its annotation, repairs and
checks it, `staging` caches the result, `decisions` compares it with all other images and assigns it to a
split or to quarantine, and `builder` writes the selected images with TFDS.
"""

# Name of the data set, and of its folder on disk.
NAME = "folder"
