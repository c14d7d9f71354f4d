"""What Python code does, apart from how it is written."""

from __future__ import annotations

import ast
import hashlib


def fingerprint(tree: ast.Module) -> str:
    """sha256 of a module's code without comments, docstrings and layout; the tree loses them."""
    for node in ast.walk(tree):
        _strip_docstrings(node)
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def _strip_docstrings(node: ast.AST) -> None:
    """Take away strings that stand alone: docstrings, and what documents an attribute."""
    body = getattr(node, "body", None)
    if isinstance(body, list):
        body[:] = [each for each in body if not _is_text(each)] or [ast.Pass()]


def _is_text(node: ast.AST) -> bool:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)
