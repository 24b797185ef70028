"""stub"""
def promote() -> None:
    """x"""
