"""Picture files: read, and brought into the form that a data set's images have.

Start at `picture_files.read`; `transform.InputTransform` says what that form is.
"""
