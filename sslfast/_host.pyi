from typing import Any

AUGMENT_COLUMNS: tuple[str, ...]
VIEW_FIELDS: tuple[str, ...]

def build_info() -> dict[str, Any]: ...
def philox(key: int, counter: list[int]) -> list[int]: ...
