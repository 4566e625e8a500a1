"""sslfast: the fast backend and complete workbench for self-supervised learning on images."""

__version__ = "0.1.0"
