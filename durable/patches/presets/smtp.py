"""A mail is the same mail whatever its boundary, date and message id: programs make those anew each time they start."""

from __future__ import annotations

import smtplib
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

from durable.patches.actions import Action, proves_nothing_happened
from durable.patches.presets import Patch, Preset

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message

_TASK = "smtplib.sendmail"
_NOT_COUNTED = frozenset({"date", "message-id", "content-type", "mime-version", "received", "dkim-signature"})
_PROOFS = (  # the server said that it did not take the mail
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPSenderRefused,
    smtplib.SMTPDataError,
    smtplib.SMTPHeloError,
    smtplib.SMTPNotSupportedError,
)


def _describe(
    sendmail: Callable[..., Any], server: smtplib.SMTP, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Action:
    sender, recipients, message = _arguments(*args, **kwargs)
    parsed = message_from_bytes(message)

    def perform() -> Any:
        is_connected = getattr(server, "sock", None) is not None
        try:
            return sendmail(*args, **kwargs)
        except _PROOFS as error:
            proves_nothing_happened(error)
            raise
        except smtplib.SMTPServerDisconnected as error:
            if not is_connected:
                proves_nothing_happened(error)
            raise

    return Action(
        task=_TASK,
        inputs={"sender": sender, "recipients": recipients, "message": _content(parsed)},
        shown={"recipients": ", ".join(recipients), "message": str(parsed.get("Subject", ""))},
        perform=perform,
        resolved=lambda value: value or {},
        idempotent=False,
    )


def _arguments(from_addr: str, to_addrs: Any, msg: Any, *_: Any, **__: Any) -> tuple[str, list[str], bytes]:
    recipients = [to_addrs] if isinstance(to_addrs, str) else [str(each) for each in to_addrs]
    return from_addr, recipients, msg.encode("utf-8", "surrogateescape") if isinstance(msg, str) else bytes(msg)


def _content(part: Message) -> tuple[Any, ...]:
    """What a mail, or a part of it, says."""
    headers = sorted((name.lower(), str(value)) for name, value in part.items() if name.lower() not in _NOT_COUNTED)
    payload = part.get_payload()
    if isinstance(payload, list):
        said: object = [_content(each) for each in payload if not isinstance(each, str)]
    else:
        said = part.get_payload(decode=True)
    return part.get_content_type(), part.get_filename(), headers, said


PRESET = Preset(
    name="smtplib",
    patches=(Patch(target="smtplib:SMTP.sendmail", describe=_describe),),
    tasks=(_TASK,),
)
