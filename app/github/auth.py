"""Credentials: the App's signed word (JWT), its short-lived installation tokens with the least they need, or one token.

An installation token is for one repository and one purpose, and is used until 5 minutes before its end. A token that
was given to us is all that there is, and is never replaced. Tokens live in memory only, and no representation of
anything here shows a key or a token.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from github import Auth
from jwt.algorithms import RSAAlgorithm

from app.clock import Clock
from app.github.answers import facts_of
from app.github.calls import Caller
from app.github.faults import Gone, Moved, Refused
from app.github.reading import Fields, as_object
from app.github.shapes import RepositoryFacts
from app.github.transport import Call
from engine.domain.errors import DevflowError

Purpose = Literal["api", "git"]
Learn = Callable[[int, RepositoryFacts], Awaitable[None]]

PERMISSIONS: dict[Purpose, dict[str, str]] = {
    "api": {
        "checks": "write",
        "contents": "read",
        "issues": "write",
        "metadata": "read",
        "pull_requests": "write",
        "statuses": "write",
    },
    "git": {"contents": "write", "metadata": "read"},
}
_ALGORITHM = "RS256"
_EARLY = timedelta(minutes=5)
_RANKS = {"read": 1, "write": 2, "admin": 3}


@dataclass(frozen=True)
class AppCredentials:
    """The App's id and its private key (PEM; line ends may be written as `\\n`)."""

    app_id: int
    private_key: str = field(repr=False)

    def auth(self) -> Auth.AppAuth:
        """Return what signs the App's word; raises `config_invalid` where the key is none."""
        written = self.private_key.replace("\\n", "\n").strip() + "\n"
        try:
            # Reading the key takes far longer than signing with it; PyGithub would read it anew for each call.
            key = cast(RSAPrivateKey, RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(written))
            signed = Auth.AppAuth(self.app_id, sign_func=lambda claims: jwt.encode(claims, key, _ALGORITHM))
            signed.create_jwt()
        except Exception:  # noqa: BLE001 - the libraries below name no common class, and no detail may get out
            hint = "set GITHUB_PRIVATE_KEY or GITHUB_PRIVATE_KEY_PATH to the PEM file that GitHub gave for the App"
        else:
            return signed
        raise DevflowError("config_invalid", "the App's private key is no RSA key in PEM form", recovery_hint=hint)


class AppAccess:
    """Access as the App itself: for tokens, its own name and its webhook deliveries."""

    allowance = "app"

    def __init__(self, credentials: AppCredentials) -> None:
        self._auth = credentials.auth()

    async def credential(self) -> Auth.Auth:
        """Return what signs a new JWT for each call."""
        return self._auth

    def drop(self, credential: Auth.Auth) -> None:
        """Do nothing: the next call signs anew anyway."""


@dataclass(frozen=True)
class Token:
    """A token; `auth` is what the HTTP layer takes, `expires_at` None where nobody told us its end."""

    value: str = field(repr=False)
    auth: Auth.Auth = field(repr=False)
    expires_at: datetime | None


class TokenSource(Protocol):
    """Where the tokens for calls and for git come from."""

    async def get(self, installation_id: int, repository_id: int, purpose: Purpose) -> Token:
        """Return a token to use now; raises `Gone` where there is none to have, `token_refused` for one that is bad."""

    def forget(self, installation_id: int, repository_id: int, purpose: Purpose, credential: Auth.Auth) -> None:
        """Forget a token that a call was refused with (401)."""

    def discard(self, token: Token) -> None:
        """Forget a token that git was refused with, whatever it was for."""


class GivenToken:
    """One token for everything, which somebody else made: once it is refused, so is everything."""

    def __init__(self, value: str) -> None:
        self._token = Token(value, Auth.Token(value), None)
        self._is_refused = False

    async def get(self, installation_id: int, repository_id: int, purpose: Purpose) -> Token:
        """Return the token; raises `token_refused` after GitHub has refused it."""
        if self._is_refused:
            raise DevflowError("token_refused", "GitHub does not take the token that was given")
        return self._token

    def forget(self, installation_id: int, repository_id: int, purpose: Purpose, credential: Auth.Auth) -> None:
        """Note that GitHub does not take the token."""
        self._is_refused = True

    def discard(self, token: Token) -> None:
        """Note that git was not let in with the token."""
        self._is_refused = True


_Key = tuple[int, int, Purpose]


class Tokens:
    """Mints installation tokens and keeps them; `learn` hears what a repository is called at each minting."""

    def __init__(self, caller: Caller, app: AppAccess, clock: Clock, learn: Learn) -> None:
        self._caller = caller
        self._app = app
        self._clock = clock
        self._learn = learn
        self._kept: dict[_Key, Token] = {}
        self._locks: defaultdict[_Key, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, installation_id: int, repository_id: int, purpose: Purpose) -> Token:
        """Return a token that holds for at least 5 minutes; raises `Gone` where the installation or repository is."""
        key = (installation_id, repository_id, purpose)
        async with self._locks[key]:
            kept = self._kept.get(key)
            if kept is None or (kept.expires_at is not None and kept.expires_at - _EARLY <= self._clock.now()):
                kept = self._kept[key] = await self._mint(key)
            return kept

    def forget(self, installation_id: int, repository_id: int, purpose: Purpose, credential: Auth.Auth) -> None:
        """Forget a token that was refused, unless it was replaced already."""
        key = (installation_id, repository_id, purpose)
        if (kept := self._kept.get(key)) is not None and kept.auth is credential:
            del self._kept[key]

    def discard(self, token: Token) -> None:
        """Forget a token that was refused, whatever it was for."""
        self._kept = {key: kept for key, kept in self._kept.items() if kept is not token}

    async def _mint(self, key: _Key) -> Token:
        installation_id, repository_id, purpose = key
        wanted = PERMISSIONS[purpose]
        try:
            answer = await self._ask(installation_id, repository_id, wanted)
        except Refused as refused:
            if refused.status != 422:
                raise
            answer = await self._ask_for_less(installation_id, repository_id, wanted, refused)
        call = Call("POST", f"/app/installations/{installation_id}/access_tokens")
        token, named = self._caller.understand(call, _read, answer)
        for facts in named:
            if facts.id == repository_id:
                await self._learn(installation_id, facts)
        return token

    async def _ask(self, installation_id: int, repository_id: int, permissions: dict[str, str]) -> Fields:
        body = {"repository_ids": [repository_id], "permissions": permissions}
        call = Call("POST", f"/app/installations/{installation_id}/access_tokens", body=body)
        try:
            reply = await self._caller.read(call, self._app)
        except Moved:
            raise Gone(f"installation {installation_id} has moved") from None
        return self._caller.understand(call, as_object, reply.data)

    async def _ask_for_less(
        self, installation_id: int, repository_id: int, wanted: dict[str, str], refused: Refused
    ) -> Fields:
        """Ask for what the installation grants of what we want: older ones may grant no commit statuses."""
        call = Call("GET", f"/app/installations/{installation_id}")
        reply = await self._caller.read(call, self._app)
        granted = self._caller.understand(call, _permissions, reply.data)
        less = {name: level for name, level in wanted.items() if _covers(granted.get(name), level)}
        if less == wanted:
            raise Gone(f"repository {repository_id}: {refused.message}")
        return await self._ask(installation_id, repository_id, less)


def _covers(granted: object, wanted: str) -> bool:
    return isinstance(granted, str) and _RANKS.get(granted, 0) >= _RANKS[wanted]


def _permissions(data: Any) -> dict[str, Any]:
    return as_object(data).child("permissions").data


def _read(answer: Fields) -> tuple[Token, list[RepositoryFacts]]:
    value = answer.text("token")
    token = Token(value, Auth.Token(value), answer.time("expires_at"))
    named = answer.children("repositories") if answer.has("repositories") else ()
    return token, [facts_of(fields) for fields in named]
