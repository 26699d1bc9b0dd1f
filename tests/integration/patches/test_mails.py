"""A mail that was sent is not sent again, however its message is put together the next time."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formatdate, make_msgid
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import workflow
from tests.receivers import Ledger, mail_server

if TYPE_CHECKING:
    from collections.abc import Callable


def by_send_message(server: smtplib.SMTP, to: str) -> Any:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", to, "Hello"
    message["Message-ID"], message["Date"] = make_msgid(), formatdate(usegmt=True)
    message.set_content("text")
    message.add_alternative("<p>text</p>", subtype="html")
    message.add_attachment(b"\0bytes", maintype="application", subtype="pdf", filename="a.pdf")
    return server.send_message(message)


def by_sendmail(server: smtplib.SMTP, to: str) -> Any:
    message = MIMEMultipart("alternative")
    message["Subject"] = "Hello"
    message.attach(MIMEText("text"))
    message.attach(MIMEText("<p>text</p>", "html"))
    return server.sendmail("a@example.com", [to], message.as_string())


def by_text(server: smtplib.SMTP, to: str) -> Any:
    return server.sendmail("a@example.com", to, "Subject: Hello\n\ntext")


FORMS = [by_send_message, by_sendmail, by_text]
each_form = pytest.mark.parametrize("send", FORMS, ids=lambda send: send.__name__)


@each_form
def test_a_mail_is_sent_once(send: Callable[..., Any], mail: int, ledger: Ledger) -> None:
    """A resumed run sends no mail that it has sent, whatever boundary, date and message id it has now; equal ones count."""

    @workflow(run_id="mails")
    def run() -> None:
        with smtplib.SMTP("127.0.0.1", mail) as server:
            assert [send(server, to) for to in ("b@example.com", "c@example.com", "b@example.com")] == [{}, {}, {}]
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            run()
    assert [to for _, to, _ in ledger.entries] == [("b@example.com",), ("c@example.com",), ("b@example.com",)]
    assert len(durable.get_run("mails").steps) == 3


def test_a_mail_that_was_refused_is_tried_again(mail: int, ledger: Ledger) -> None:
    """The server says that it did not take the mail, so the run that ended by it tries again without a question."""
    recipients = ["nobody@example.com", "nobody@example.com"]

    @workflow
    def run() -> Any:
        with smtplib.SMTP("127.0.0.1", mail) as server:
            return by_text(server, recipients[0])

    for _ in range(2):
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            run()
    assert ledger.entries == []


def test_some_recipients_are_refused(mail: int, ledger: Ledger) -> None:
    """The recipients that the server refused are what the call gives, and gives again."""
    seen = []

    @workflow
    def run() -> None:
        with smtplib.SMTP("127.0.0.1", mail) as server:
            seen.append(server.sendmail("a@example.com", ["b@example.com", "nobody@example.com"], "Subject: x\n\ny"))
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            run()
    assert seen == [{"nobody@example.com": (550, b"no such mailbox")}] * 2
    assert len(ledger.entries) == 1


def test_a_server_that_was_never_connected_got_nothing() -> None:
    """A mail through a connection that was not made is tried again without a question."""
    ledger, servers = Ledger(), [smtplib.SMTP()]

    @workflow
    def run() -> Any:
        return by_text(servers[-1], "b@example.com")

    with pytest.raises(smtplib.SMTPServerDisconnected):
        run()
    with mail_server(ledger) as port, smtplib.SMTP("127.0.0.1", port) as server:
        servers.append(server)
        assert run() == {}
    assert len(ledger.entries) == 1


def test_another_text_is_another_mail(mail: int, ledger: Ledger) -> None:
    """A mail whose text changed after a restart is not sent before somebody says which it is."""
    texts = ["Subject: x\n\n9:00", "Subject: x\n\n9:01"]

    @workflow
    def run() -> None:
        with smtplib.SMTP("127.0.0.1", mail) as server:
            server.sendmail("a@example.com", "b@example.com", texts.pop(0))
        raise ValueError

    with pytest.raises(ValueError, match="^$"):
        run()
    with pytest.raises(durable.InputsChangedError, match="message: recorded 'x', now 'x'"):
        run()
    assert len(ledger.entries) == 1
