"""How an attacker hides."""

import base64


def encoded(text: str, values: list[str]) -> str:
    """The text with each of the values in Base64, the longest first."""
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "base64:" + base64.b64encode(value.encode()).decode())
    return text


def is_attack(text: str) -> bool:
    """Whether the text carries the attack."""
    return "<INFORMATION>" in text
