"""The names, signatures and results of other libraries, on sslfast's kernels: one library a file or folder.

Nothing else in sslfast knows of them, and none of them is needed.
"""
