"""Faces of a photo: found, cut out upright as the models know them, put back.

alignment: from landmarks or quads to squares and back. photos: a whole photo in and out, with its profile,
EXIF and alpha. detection: where the faces are, by models that `wagi-rt faces install` brings (models,
tflite). Needs numpy and Pillow; an engine only to detect.
"""
