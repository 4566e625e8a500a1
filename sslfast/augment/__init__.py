"""What to draw: view specifications, the papers' presets, and the views of a batch."""

from sslfast.augment import presets
from sslfast.augment.multiview import MultiView, Views
from sslfast.augment.spec import ViewSpec

__all__ = ["MultiView", "ViewSpec", "Views", "presets"]
