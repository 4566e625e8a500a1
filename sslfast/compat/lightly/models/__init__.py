"""lightly's heads and helpers for models (`lightly.models`)."""
