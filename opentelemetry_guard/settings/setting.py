"""What a setting is: declared once, as a field of a group, with all that anybody needs to know of it.

A group is a frozen dataclass whose fields are made by `setting`::

    @dataclass(frozen=True, slots=True)
    class PrivacySettings(Group):
        PREFIX: ClassVar[str] = "OTEL_PYTHON_GUARD_"

        capture_content: bool = setting(False, values.switch, "whether events quote what matched a pattern")

From the declaration come the keyword and the environment variable, the
validation and its messages, which values are never shown, the field of
`AgentConfig` and of fastapi-guard's `SecurityConfig` that means the same, and
the row of the tables in the documentation.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias, TypeVar

from .once import log_once
from .shown import quoted
from .urls import mask_url

_logger = logging.getLogger(__name__)

Parser: TypeAlias = "Callable[[object], object]"
"""Returns a setting's value, or raises ValueError with what is allowed."""

_Value = TypeVar("_Value")
_Group = TypeVar("_Group", bound="Group")
_DECLARATION = "setting"


class SettingError(ValueError):
    """A setting has a value that it can't have. The text names the setting, the value (never a secret) and the remedy.

    `from_environment` tells who made the mistake: a wrong keyword argument
    is the programmer's and is raised; a wrong environment variable is the
    operator's and must not take the application's other telemetry down.
    """

    def __init__(self, message: str, *, from_environment: bool) -> None:
        super().__init__(message)
        self.from_environment = from_environment


def _same(value: Any) -> object:
    return value


@dataclass(frozen=True, slots=True)
class Fallback:
    """What a wrong variable becomes where the default would be less safe, and the words that tell it."""

    make: Callable[[], object]
    told: str


@dataclass(frozen=True, slots=True)
class Declaration:
    """What `setting` was told.

    Attributes:
        parse: reads and checks a value.
        meaning: one line for the documentation, in Markdown.
        shown: the default in the documentation; None is the default itself.
        secret: whether the value is never shown.
        url: whether the value is a URL that may hold a password, which is masked.
        blank_is_wrong: whether blank text is a mistake instead of "unset": what the setting protects must not go out
            unprotected.
        variable: whether there is an environment variable.
        agent: the field of `AgentConfig` that means the same, and with ``agent_`` in front of fastapi-guard's
            `SecurityConfig`.
        convert: writes the value of that field as this setting has it.
        fallback: what a wrong variable becomes; None is the default.
    """

    parse: Parser
    meaning: str
    shown: str | None = None
    secret: bool = False
    url: bool = False
    blank_is_wrong: bool = False
    variable: bool = True
    agent: str | None = None
    convert: Callable[[Any], object] = _same
    fallback: Fallback | None = None


def setting(default: _Value, parse: Callable[[object], _Value], meaning: str, **declared: Any) -> _Value:
    """Declare a setting as a field of a `Group`.

    Args:
        default: its value where nobody says anything.
        parse: reads and checks a value.
        meaning: one line for the documentation.
        **declared: the other attributes of `Declaration`.
    """
    found: _Value = _field(default, Declaration(parse, meaning, **declared))
    return found


def _field(default: object, declaration: Declaration) -> Any:
    return dataclasses.field(
        default_factory=lambda: default,
        repr=not (declaration.secret or declaration.url),
        metadata={_DECLARATION: declaration},
    )


def same(group: type[Group], name: str, **changed: Any) -> Any:
    """Declare a setting as another group has it, but for what is `changed` of its `Declaration`."""
    found = group.settings()[name]
    return _field(found.default, dataclasses.replace(found.declared, **changed))


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a group: its declaration under its name.

    Attributes:
        name: the keyword.
        group: what it belongs to.
        variable: the environment variable; None where there is none.
        default: its value where nobody says anything.
        declared: the rest.
    """

    name: str
    group: type[Group]
    variable: str | None
    default: object
    declared: Declaration

    def is_unset(self, value: object) -> bool:
        """Whether a value counts as not given: None and blank text do, but a blank secret can be a mistake."""
        if isinstance(value, str):
            return not value if self.declared.blank_is_wrong else not value.strip()
        return value is None

    def parse(self, value: object, *, from_environment: bool = False) -> object:
        """Return the validated value.

        Raises:
            SettingError: it is not allowed.
        """
        try:
            return self.declared.parse(value)
        except ValueError as error:
            name = self.variable if from_environment else self.name
            raise SettingError(f"{name} {self._shown(value)}: {error}", from_environment=from_environment) from None

    def _shown(self, value: object) -> str:
        if self.declared.secret:
            return "has a value that can't be used"
        shown = quoted(mask_url(str(value)) if self.declared.url else str(value))
        return f"is {shown}, which can't be used"


class Group:
    """Settings that are resolved together: a frozen dataclass whose fields are made by `setting`."""

    __slots__ = ()

    PREFIX: ClassVar[str]
    """What the names of the environment variables begin with; the setting's name in upper case follows."""
    SUBJECT: ClassVar[str] = ""
    """What the settings are about, for messages."""
    STRICT: ClassVar[bool] = False
    """Whether a wrong variable is raised; else it is logged once, and the default takes its place."""
    LATE: ClassVar[bool] = True
    """Whether these may arrive when the exporters exist already (`late.offer`)."""

    @classmethod
    def settings(cls) -> Mapping[str, Setting]:
        """Return the settings by name, in the order in which they are declared."""
        if cls not in _declared:
            _declared[cls] = _read(cls)
        return _declared[cls]

    @classmethod
    def resolve(cls: type[_Group], environ: Mapping[str, str] | None = None, /, **keywords: object) -> _Group:
        """Return what keyword arguments, the environment, late settings and the defaults make together, in that order.

        A keyword that is None or blank text and a variable that is blank count as not given: a declarative
        configuration turns an unset variable into either.

        Raises:
            SettingError: a keyword has a value that is not allowed, or a variable has one and the group is strict; or
                a setting needs another one.
            TypeError: a keyword is not the name of a setting.
        """
        cls._refuse_unknown(keywords)
        values = {name: cls._given(found, keywords.get(name), environ) for name, found in cls.settings().items()}
        made = cls(**{name: value for name, value in values.items() if value is not None})
        if (conflict := made.conflict()) is not None:
            found, why = cls.settings()[conflict[0]], conflict[1]
            from_environment = found.is_unset(keywords.get(found.name)) and found.variable is not None
            raise SettingError(
                f"{found.variable if from_environment else found.name} {why}", from_environment=from_environment
            )
        return made

    def conflict(self) -> tuple[str, str] | None:
        """Return the name of a setting that does not go with the others, and what is to be done; None if all do."""
        return None

    @classmethod
    def read(cls, name: str, keyword: object = None) -> Any:
        """Return one setting of this process, as `resolve` would; it looks at no other."""
        found = cls.settings()[name]
        value = cls._given(found, keyword, None)
        return found.default if value is None else value

    @classmethod
    def parse(cls, name: str, value: object) -> object:
        """Return one setting's validated value; None where the value counts as not given.

        Raises:
            SettingError: the value is not allowed.
            TypeError: there is no such setting.
        """
        cls._refuse_unknown({name: value})
        found = cls.settings()[name]
        return None if found.is_unset(value) else found.parse(value)

    @classmethod
    def _refuse_unknown(cls, keywords: Mapping[str, object]) -> None:
        if unknown := sorted(keywords.keys() - cls.settings().keys()):
            subject = cls.SUBJECT and f"{cls.SUBJECT} "
            raise TypeError(f"unknown {subject}setting {unknown[0]!r}, allowed are {', '.join(cls.settings())}")

    @classmethod
    def _given(cls, found: Setting, keyword: object, environ: Mapping[str, str] | None) -> object:
        """Return what somebody has said of a setting, None where nobody has."""
        # Where the default is less safe than a mistake, code that says "" has made one.
        if not found.is_unset(keyword) or (found.declared.fallback and keyword is not None):
            return found.parse(keyword)
        text = (os.environ if environ is None else environ).get(found.variable, "") if found.variable else ""
        if found.is_unset(text):
            return _late.get(found.name) if cls.LATE else None
        try:
            return found.parse(text, from_environment=True)
        except SettingError as error:
            if cls.STRICT:
                raise
            fallback = found.declared.fallback
            log_once(_logger, logging.ERROR, f"{error}; {fallback.told if fallback else 'the default is used'}")
            return found.default if fallback is None else fallback.make()


_declared: dict[type[Group], Mapping[str, Setting]] = {}
"""The settings of each group, read from its fields at the first use; races only do so twice."""


def _read(group: type[Group]) -> Mapping[str, Setting]:
    found = {}
    for field in dataclasses.fields(group):  # type: ignore[arg-type]
        declared: Declaration = field.metadata[_DECLARATION]
        variable = group.PREFIX + field.name.upper() if declared.variable else None
        default = field.default_factory() if callable(field.default_factory) else None
        found[field.name] = Setting(field.name, group, variable, default, declared)
    return MappingProxyType(found)


_late: Mapping[str, object] = MappingProxyType({})
"""Late settings, validated. Replaced as a whole, by `set_late` alone, so that a reader needs no lock."""


def set_late(settings: Mapping[str, object]) -> None:
    """Replace the late settings by `settings`, which are validated; for `opentelemetry_guard.settings.late`."""
    global _late
    _late = MappingProxyType(dict(settings))
