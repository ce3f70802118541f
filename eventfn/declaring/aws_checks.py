"""The rules of [aws] and [[aws.keys]], and the secrets that stand in files.

Belongs here: what is right to write there. Does not: what a key may do with it (functions/permissions.py), and who is
who in a request (api/identity.py).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from eventfn.aws import services
from eventfn.aws.endpoints import entry
from eventfn.declaring.settings import KeyPath, SettingsReader, did_you_mean, is_list, is_table, shown
from eventfn.functions.model import AccessKey, Aws
from eventfn.sandbox import allow_list

_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")
_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{3,128}")  # it stands between slashes in a signature
_PRINCIPAL = re.compile(
    r"arn:aws[a-z-]*:(iam::[0-9]{12}:(root|(user|role)/[\w+=,.@/-]+)|sts::[0-9]{12}:assumed-role/[\w+=,.@-]+/[\w+=,.@-]+)",
    re.ASCII,
)
_STATEMENT_KEYS = ("Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition")
_SHORTEST_SECRET = 8  # what is shorter is guessed
_LONGEST_FILE = 4096


class AwsChecks:
    """One look at [aws]; what is wrong goes to `reader.findings`. `folder`: where relative paths start."""

    def __init__(self, aws: Aws, reader: SettingsReader, folder: Path) -> None:
        self._aws = aws
        self._find = reader.find
        self._folder = folder

    def complete(self) -> Aws:
        """With every secret read from its file, and every principal filled in."""
        aws = self._aws
        if not _ACCOUNT.fullmatch(aws.account):
            self._find(("aws", "account"), f"expected 12 digits, got {shown(aws.account)}")
        if not _REGION.fullmatch(aws.region):
            self._find(("aws", "region"), f'expected a region such as "us-east-1", got {shown(aws.region)}')
        if aws.endpoint is not None:
            self._url(aws.endpoint, ("aws", "endpoint"))
        for service, url in aws.endpoints.items():
            path: KeyPath = ("aws", "endpoints", service)
            if service == "lambda":
                self._find(path, "Lambda is this node itself: functions are told its address", "leave it out")
            elif service not in services.SPELLED:
                self._find(path, "no service of AWS is called so", did_you_mean(service, services.SPELLED))
            self._url(url, path)
        return msgspec.structs.replace(aws, keys=self._keys())

    def _url(self, text: str, path: KeyPath) -> None:
        url = _split(text)
        if url is None:
            self._find(path, f'expected a URL such as "http://127.0.0.1:4566", got {shown(text)}')
        elif "@" in url.netloc:
            # Functions are told it, and every log of a client's shows it.
            self._find(path, "a name and a password are no part of an endpoint", "requests are signed with keys")
        elif url.query or url.fragment:
            self._find(path, f"expected a URL that ends with its host, port or path, got {shown(text)}")
        else:
            try:
                allow_list.target(entry(text))  # functions reach it by their network
            except allow_list.NotAnEntry as wrong:
                self._find(path, f"{wrong}: functions could not reach it", wrong.hint)

    def _keys(self) -> tuple[AccessKey, ...]:
        keys: list[AccessKey] = []
        for at, key in enumerate(self._aws.keys):
            path: KeyPath = ("aws", "keys", at)
            if not _ACCESS_KEY_ID.fullmatch(key.access_key_id):
                self._find(
                    (*path, "access_key_id"),
                    f"expected 3 to 128 letters, digits, '_', '.' and '-', got {shown(key.access_key_id)}",
                )
            if (first := _position(keys, key.access_key_id)) is not None:
                self._find((*path, "access_key_id"), f"is also that of aws.keys[{first}]: each key has its own")
            principal = key.principal or f"arn:aws:iam::{self._aws.account}:root"
            if not _PRINCIPAL.fullmatch(principal) and _ACCOUNT.fullmatch(self._aws.account):
                example = f'"arn:aws:iam::{self._aws.account}:user/NAME"'
                self._find((*path, "principal"), f"expected an ARN such as {example}, got {shown(principal)}")
            for number, statement in enumerate(key.policy or ()):
                self._statement(statement, (*path, "policy", number))
            secret = self._secret(key, path)
            keys.append(msgspec.structs.replace(key, principal=principal, secret_access_key=secret))
        return tuple(keys)

    # --- secrets: no message shows what one is ---

    def _secret(self, key: AccessKey, path: KeyPath) -> str:
        file, written = key.secret_access_key_file, key.secret_access_key
        if file is not None and written:
            self._find((*path, "secret_access_key_file"), "expected this or secret_access_key, not both")
        elif file is not None:
            path = (*path, "secret_access_key_file")
            written = self._read(self._folder / file, path)
        elif not written:
            self._find(
                (*path, "secret_access_key"),
                "is missing: expected text",
                'or secret_access_key_file = "PATH"; "${NAME}" takes it from the environment',
            )
        if written and (len(written) < _SHORTEST_SECRET or not written.isprintable() or " " in written):
            self._find(
                path if file is not None else (*path, "secret_access_key"),
                f"expected at least {_SHORTEST_SECRET} characters without blanks",
                "such as `openssl rand -hex 20` makes",
            )
        return written

    def _read(self, file: Path, path: KeyPath) -> str:
        """ "" after a finding."""
        try:
            with file.open("rb") as opened:
                text = opened.read(_LONGEST_FILE + 1)
        except OSError as error:
            siblings = [each.name for each in file.parent.iterdir()] if file.parent.is_dir() else []
            hint = did_you_mean(file.name, siblings) if isinstance(error, FileNotFoundError) else None
            self._find(path, f"{file} cannot be read: {error.strerror}", hint)
            return ""
        lines = text.decode(errors="replace").split("\n")
        if len(text) > _LONGEST_FILE or any(line.strip() for line in lines[1:]) or not lines[0].strip():
            self._find(path, f"expected one line with the secret in {file}")
            return ""
        return lines[0].strip()

    # --- policies ---

    def _statement(self, statement: dict[str, Any], path: KeyPath) -> None:
        for key in statement:
            if key in ("Principal", "NotPrincipal"):
                self._find((*path, key), "a key's policy says what its own principal may do", "leave it out")
            elif key not in _STATEMENT_KEYS:
                self._find((*path, key), "unknown key", did_you_mean(key, _STATEMENT_KEYS, "known keys"))
        if statement.get("Effect") not in ("Allow", "Deny"):
            self._find((*path, "Effect"), f'expected "Allow" or "Deny", got {shown(statement.get("Effect"))}')
        for one, other, example in (("Action", "NotAction", "lambda:InvokeFunction"), ("Resource", "NotResource", "*")):
            if (one in statement) == (other in statement):
                self._find((*path, one), f"expected either {one} or {other}", f'such as {one} = "{example}"')
            for key in {one, other} & statement.keys():
                if not _is_text_or_texts(statement[key]):
                    self._find((*path, key), f"expected text or a list of text, got {shown(statement[key])}")
        condition = statement.get("Condition", {})
        if not is_table(condition) or not all(map(is_table, condition.values())):
            expected = "expected a table of operators with a table of keys each"
            self._find((*path, "Condition"), expected, 'such as { StringEquals = { "aws:PrincipalAccount" = "..." } }')


def _split(text: str) -> SplitResult | None:
    """None: it is no URL of an HTTP server."""
    try:
        url = urlsplit(text)
        right = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return None
    return url if right and text.isprintable() and " " not in text else None


def _position(keys: list[AccessKey], access_key_id: str) -> int | None:
    return next((at for at, key in enumerate(keys) if key.access_key_id == access_key_id), None)


def _is_text_or_texts(value: Any) -> bool:
    return isinstance(value, str) or (is_list(value) and bool(value) and all(isinstance(one, str) for one in value))
