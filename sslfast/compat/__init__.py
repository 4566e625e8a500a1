"""The names, signatures and results of other libraries, on sslfast's losses: one library a file.

Nothing else in sslfast knows of them, and none of them is needed.
"""
