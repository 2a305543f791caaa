"""From the data of a file to its sections, with all errors at once."""

from typing import Final, TypeVar

from pydantic import ValidationError

from exporter.config.config_errors import ConfigErrors
from exporter.config.sections import Section, UnknownKeyError


_INHERITED: Final = (("poll",), ("tasks",))

Model = TypeVar("Model", bound=Section)


def validate(
    model: type[Model], data: object, errors: ConfigErrors, context: object = "file"
) -> Model | None:
    """Return the sections of a file; None if something is wrong, which is then added to the errors.

    Args:
        model: The file's model.
        data: The file's, perhaps with values that accounts inherit from global sections.
        errors: Knows the lines of the values that are in the file itself.
        context: For the models' validators.
    """
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        problems = [(each["loc"], each["ctx"]["error"]) for each in error.errors(include_url=False)]
    everywhere = {(path, str(problem)) for path, problem in problems}
    for path, problem in problems:
        place = path[:-1] if isinstance(problem, UnknownKeyError) else path
        if path[:1] == ("accounts",) and path[2:3] in _INHERITED and path not in errors.lines:
            if (path[2:], str(problem)) in everywhere:
                continue
            place = path[:3]
        errors.add(place, str(problem), line=errors.line(path))
    return None
