"""Domain errors: what can go wrong in words of this project, free of HTTP, SQL and provider text.

Messages are sentences that may be shown to a user as they stand.
"""

import re
from datetime import datetime
from uuid import UUID

KIND = re.compile(r"[\w.-]{1,80}")
"""The shape of a provider's error type; what is not of it is some other text."""


def plural(number: int, noun: str) -> str:
    """As in "1 photo", "3,000 photos"; for sentences, here and on pages."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class I2IError(Exception):
    """Base of every error that this project raises on purpose."""


class NotFound(I2IError):
    """The thing does not exist, or is not the caller's: the two look alike on purpose."""


class InTrash(NotFound):
    """The caller's own picture, or all pictures of a batch: thrown away, but they can come back."""

    def __init__(
        self,
        *,
        pictures: int,
        deleted_at: datetime,
        job_id: UUID | None = None,
        batch_id: UUID | None = None,
    ) -> None:
        super().__init__("It lies in the trash.")
        self.pictures = pictures
        self.deleted_at = deleted_at
        self.job_id = job_id
        self.batch_id = batch_id


class Refused(I2IError):
    """An action that the present state does not allow; the message says why and what to do."""


class PerhapsCharged(Refused):
    """Running these pictures again may pay for them twice, which a person has to want.

    `number` of them were perhaps charged; `others` would start as well and were not.
    """

    def __init__(self, number: int, *, others: int) -> None:
        verb, them = ("was", "it") if number == 1 else ("were", "them")
        super().__init__(
            f"{plural(number, 'picture')} {verb} sent, and nobody knows yet whether fal charged "
            f"for {them}. Sending {them} again may make a second picture and a second charge."
        )
        self.number = number
        self.others = others


class EmailTaken(Refused):
    """Another user has this e-mail address."""


class WrongCredentials(I2IError):
    """E-mail and password do not match a user who may sign in; never says which part."""


class TooManyTries(I2IError):
    """A rate limit is used up. `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many tries. Wait {retry_after} seconds, then try again.")
        self.retry_after = retry_after


class TooBusy(I2IError):
    """More work came at once than there is room for; a moment later there is."""

    def __init__(self) -> None:
        super().__init__("Many people are signing in just now. Wait a moment, then try again.")


class InvalidFields(I2IError):
    """A form does not hold. `fields` maps a field's name to a sentence saying what to enter."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__("; ".join(fields.values()))
        self.fields = fields


class InvalidWorkflow(I2IError):
    """A workflow definition does not hold; `pointer` is the place's JSON Pointer, "" the whole."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(f"{pointer}: {message}" if pointer else message)
        self.message = message
        self.pointer = pointer


class InvalidImage(I2IError):
    """Bytes that are not a photo we take. `code` is stable for scripts, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ImagingFailed(I2IError):
    """A picture could not be decoded for reasons of this machine; trying again may work."""


class StorageError(I2IError):
    """Bytes could not be kept or fetched: the disk is full, or the store does not answer."""


class DamagedFile(StorageError):
    """The store gave other bytes than it was given. Asking again does not help."""


class DatabaseUnavailable(I2IError):
    """No PostgreSQL answers; the message is one line that says what to do."""


class FalError(I2IError):
    """Base of what fal's side can answer. `detail` is for logs and operators, never for users."""

    def __init__(
        self, detail: str, *, http_status: int | None = None, error_type: str | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.http_status = http_status
        self.error_type = error_type

    @property
    def brief(self) -> str:
        """For log lines: never fal's own words, which may repeat a prompt; the ledger has them."""
        if self.http_status is None:
            return self.detail
        kind = self.error_type or ""
        return f"HTTP {self.http_status} {kind if KIND.fullmatch(kind) else ''}".rstrip()


class FalNotSent(FalError):
    """Provably not accepted and worth another try: no connection, 429, locked, storage trouble."""


class FalAccount(FalNotSent):
    """The key or the balance is refused (401, 402, 403 locked): nothing will be accepted."""


class FalRejected(FalError):
    """A 4xx before acceptance, or as the result: this request will never make a picture."""


class FalUnclear(FalError):
    """A request left us and no clear answer came: it may be accepted and may cost money."""


class FalTemporary(FalError):
    """A read (status, result, list, download) did not work; asking again costs nothing."""


class FalGone(FalError):
    """404 or 410 on something that existed: an accepted id, or an output that has expired."""
