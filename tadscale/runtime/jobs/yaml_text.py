"""YAML of job files and of single values, read within bounds: nothing twice, nothing without end."""

from typing import Any

import yaml

from tadscale.errors import UserError

MAX_BYTES = 256 * 1024  # PyYAML reads some 200 kB a second; the largest job file here has 4 kB
MAX_VALUES = 20_000  # written out in full: an alias counts as what it stands for, so that ten lines cannot become 10^9


def parse_yaml(text: str, source: str) -> Any:
    """Plain values out of YAML.

    Raises:
        UserError: the text is not YAML, too large or too deep, or a mapping holds a key twice; says where.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise UserError(f"{source}: {len(text)} characters are no settings; at most {MAX_BYTES} bytes are read")
    try:
        return _construct(yaml.SafeLoader(text), source)
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not valid YAML: {error}") from None
    except RecursionError:
        raise UserError(f"{source}: nested too deeply, or an alias that holds itself") from None
    except (ValueError, OverflowError) as error:  # an impossible date, a number of 5,000 digits
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{source}: a value that YAML takes for a date or a number is none: {error}. Quote it."
        ) from None


def _construct(loader: yaml.SafeLoader, source: str) -> Any:
    root = loader.get_single_node()
    if root is None:
        return None
    if _size(root, source, {}) > MAX_VALUES:
        raise UserError(
            f"{source}: more than {MAX_VALUES} values with its aliases written out: no settings are so many"
        )
    return loader.construct_document(root)


def _size(node: yaml.Node, source: str, known: dict[int, int]) -> int:
    """How many values a node stands for with its aliases written out; refuses a key that is in a mapping twice.

    `known` holds the nodes that were counted: each is walked once, however often it is referred to.
    """
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _refuse_twins(node, source)
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(_size(child, source, known) for child in children)
    return known[id(node)]


def _refuse_twins(node: yaml.MappingNode, source: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line = key.start_mark.line + 1
        if key.value in lines:
            raise UserError(
                f"{source}: the key `{key.value}` stands twice, in lines {lines[key.value]} and {line}: only one value "
                "could count; remove one"
            )
        lines[key.value] = line
