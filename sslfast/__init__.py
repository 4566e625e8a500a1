"""sslfast: the fast backend and complete workbench for self-supervised learning on images."""

import pkgutil

# In a checkout the sources come from here and the compiled libraries from the installed package, wherever Python runs.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"
