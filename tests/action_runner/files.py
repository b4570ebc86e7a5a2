"""The files by which a step answers: outputs, environment and path; read as GitHub's runner reads them."""

import re


class FileError(ValueError):
    """A file that the runner would refuse."""


def read_values(text: str) -> dict[str, str]:
    """Return the pairs of a file for outputs or environment: `name=value`, or `name<<end`, lines, `end`."""
    found: dict[str, str] = {}
    # the runner knows all three kinds of line ends
    lines = re.split(r"\r\n|\r|\n", text.removesuffix("\n")) if text else []
    place = 0
    while place < len(lines):
        line = lines[place]
        place += 1
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            name, _, value = line.partition("=")
        elif heredoc >= 0:
            name, _, end = line.partition("<<")
            if not name or not end:
                raise FileError(f"no name or no delimiter: {line!r}")
            if end not in lines[place:]:
                raise FileError(f"the delimiter {end!r} does not come")
            last = lines.index(end, place)
            value = "\n".join(lines[place:last])
            place = last + 1
        else:
            raise FileError(f"no name=value: {line!r}")
        if not name:
            raise FileError(f"no name: {line!r}")
        found[name] = value
    return found
