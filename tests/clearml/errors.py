"""The errors of the API: code, subcode and message, as the real server gives them.

A message is made like there: the general text, a detail in brackets, then the values that it is about.
"""

_TEXTS = {
    (400, 12): "Validation error",
    (400, 14): "Fields not defined for object",
    (400, 16): "Invalid value for fields",
    (400, 21): "Malformed regular expression",
    (400, 101): "Invalid task id",
    (400, 110): "Invalid task status",
    (400, 123): "Task cannot be deleted",
    (400, 201): "Invalid model id",
    (400, 205): "Model is used by tasks",
    (400, 206): "Task that created this model exists",
    (401, 10): "Unauthorized (bad authentication header type)",
    (401, 20): "Unauthorized (missing credentials)",
    (401, 21): "Unauthorized (malformed credentials)",
    (401, 22): "Unauthorized (invalid credentials)",
    (401, 30): "Invalid token",
    (403, 21): "Forbidden (modification not allowed)",
    (500, 100): "General data error",
}


class ApiError(Exception):
    """An answer that is an error. It is both the HTTP status and the envelope."""

    def __init__(self, code, subcode, detail="", **data):
        self.code = code
        self.subcode = subcode
        self.data = data
        text = _TEXTS.get((code, subcode), "")
        if detail:
            text = f"{text} ({detail})" if text else detail
        if data:
            text += ": " + ", ".join(f"{key}={value}" for key, value in data.items())
        self.message = text
        super().__init__(text)


def required(body, name, kind):
    """The value of a parameter that a call cannot do without."""
    value = body.get(name)
    if not isinstance(value, kind) or value in ("", []):
        raise ApiError(400, 12, f"{name} is required", field=name)
    return value


def optional(body, name, kind, default):
    """The value of a parameter, or its default. A value of another kind is an error."""
    value = body.get(name)
    if value is None:
        return default
    is_bool_for_int = kind is int and isinstance(value, bool)
    if not isinstance(value, kind) or is_bool_for_int:
        raise ApiError(400, 12, f"wrong type of {name}", field=name)
    return value
