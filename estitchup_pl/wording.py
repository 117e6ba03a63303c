"""Words of messages."""


def counted(number: int, one: str, several: str = "") -> str:
    """A number and what it counts.

    Args:
        number: How many.
        one: What one of them is called.
        several: What several are called, if it is not the same with an s.

    Example:
        >>> counted(1, "class", "classes"), counted(1200, "row")
        ('1 class', '1,200 rows')
    """
    return f"{number:,} {one if number == 1 else several or one + 's'}"
