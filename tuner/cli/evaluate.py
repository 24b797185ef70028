"""stub"""
def evaluate() -> None:
    """x"""
