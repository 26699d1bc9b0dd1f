"""A script that knows nothing of durable sends mails and is killed: the same command goes on, and nobody gets a mail twice.

Command (needs `pip install aiosmtpd` for the mail server, which is started here):

    python examples/09_unmodified_newsletter.py

Expected output:

    durable run --patch smtplib newsletter.py
      mail for ada
      mail for bob
      mail for cyd, and the script is killed before it hears of that
    durable run --patch smtplib newsletter.py
      exit code 76: a step is in doubt
    durable resolve RUN smtplib.sendmail --happened '{}'
    durable run --patch smtplib newsletter.py
      mail for dan
      mail for eve
    durable run --patch smtplib newsletter.py
      nothing to do
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from mail_server import MailServer

NEWSLETTER = """
import smtplib, sys
from email.message import EmailMessage

with smtplib.SMTP("127.0.0.1", int(sys.argv[1])) as server:
    for name in ("ada", "bob", "cyd", "dan", "eve"):
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "shop@example.com", f"{name}@example.com", "News"
        mail.set_content(f"Dear {name}!")
        server.send_message(mail)
"""
RUN = ("run", "--patch", "smtplib", "newsletter.py")
started: list[subprocess.Popen[str]] = []


def receive(recipient: str) -> None:
    name = recipient.partition("@")[0]
    print(f"  mail for {name}{', and the script is killed before it hears of that' * (name == 'cyd')}", flush=True)
    if name == "cyd":
        started[-1].kill()


def durable(*words: str) -> tuple[int, str]:
    started.append(subprocess.Popen([sys.executable, "-m", "durable", *words], stderr=subprocess.PIPE, text=True))
    told = started[-1].communicate()[1]
    return started[-1].returncode, told


def main() -> None:
    os.chdir(tempfile.mkdtemp())
    Path("newsletter.py").write_text(NEWSLETTER)
    with MailServer(receive) as server:
        for _ in range(4):
            print("durable", *RUN, flush=True)
            code, told = durable(*RUN, str(server.port))
            doubt = re.search(r"durable resolve (\S+) '?([^' ]+)", told)
            if code == 76 and doubt:
                print(
                    "  exit code 76: a step is in doubt\ndurable resolve RUN smtplib.sendmail --happened '{}'",
                    flush=True,
                )
                durable("resolve", *doubt.groups(), "--happened", "{}")
            elif " succeeded " in told:
                print("  nothing to do")


if __name__ == "__main__":
    main()
