"""stub"""
def predict() -> None:
    """x"""
