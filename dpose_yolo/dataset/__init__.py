"""Data sets as files: reading and checking them without the engine, in memory that images do not fill.

Everything here takes images and labels one at a time. What is kept of an image (path, hashes, size, part) lies in a
private temporary database, so that a set of a million images is looked at like one of a thousand.
"""
