"""Runs in a container: prints which imports of the code there, wherever they stand in it, can't be found."""

import ast
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def is_found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False


sys.path.insert(0, "/app")
names = {name for path in Path("/app").rglob("*.py") for name in imports(path)}
json.dump(sorted(name for name in names if not is_found(name)), sys.stdout)
