"""JSON Schemas that tenants register: compiled, and refused when checking an event against one could take for ever."""

from collections.abc import Callable
from typing import Any

import jsonschema_rs

from shared.domain.errors import InvalidRequest

_MAX_RULES = 2_000
_MAX_LEVELS = 32
_INDIRECT = ("$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor")

FindErrors = Callable[[Any], Any]


def compile_schema(schema: Any) -> FindErrors:
    """From a schema to a function that lists what is wrong with a value. Raises InvalidRequest for an unusable schema.

    Patterns run in linear time. References stay within the schema, never lead back to themselves, and the schema with
    its references written out has at most 2,000 rules: two references to two references, thirty times over, never end.
    """
    try:
        _count_rules(schema, root=schema, referring=())
        validator = jsonschema_rs.validator_for(
            schema, retriever=_refuse_reference, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, TypeError) as error:
        message = str(error).splitlines()[0][:300]
        raise InvalidRequest(
            f"validation_schema is not a usable JSON Schema: {message}",
            errors=[{"field": "validation_schema", "code": "invalid_schema", "message": message}],
        ) from error
    return validator.iter_errors


def _count_rules(part: Any, *, root: Any, referring: tuple[str, ...], level: int = 0, count: int = 0) -> int:
    """`count` and the rules in `part`, with every reference counted as what it stands for."""
    count += 1
    if count > _MAX_RULES:
        raise ValueError(f"with its references written out it has more than {_MAX_RULES} rules")
    if level > _MAX_LEVELS:
        raise ValueError(f"it is nested more than {_MAX_LEVELS} levels deep")
    if isinstance(part, dict):
        for name, value in part.items():
            if name in _INDIRECT and isinstance(value, str) and (level or name != "$id"):
                raise ValueError(f"`{name}` is not supported")
            if name == "$ref" and isinstance(value, str):
                if value in referring:
                    raise ValueError(f"the reference `{value[:100]}` leads back to itself")
                target = _referred(root, value)
                count = _count_rules(target, root=root, referring=(*referring, value), level=level + 1, count=count)
            elif level or name not in ("$defs", "definitions"):
                count = _count_rules(value, root=root, referring=referring, level=level + 1, count=count)
    elif isinstance(part, list):
        for value in part:
            count = _count_rules(value, root=root, referring=referring, level=level + 1, count=count)
    return count


def _referred(root: Any, reference: str) -> Any:
    if reference != "#" and not reference.startswith("#/"):
        raise ValueError(f"{reference[:100]}: references to other documents are not followed")
    part = root
    for name in reference.split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        if not isinstance(part, dict) or name not in part:
            raise ValueError(f"the reference `{reference[:100]}` leads nowhere")
        part = part[name]
    return part


def _refuse_reference(uri: str) -> Any:
    raise ValueError(f"{uri}: references to other documents are not followed")
