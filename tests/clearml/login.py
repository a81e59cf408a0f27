"""Who may call: credentials, and tokens in the form that the real server gives (JWT)."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets

from errors import ApiError, optional
from store import COMPANY

DEFAULT_SECONDS = 30 * 86_400
MOST_SECONDS = 31_536_000


def _encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Login:
    """Makes tokens and checks them."""

    def __init__(self, store):
        self.store = store
        self._secret = secrets.token_bytes(32)
        # Tokens that were found to be signed by this server, with their ends.
        self._ends = {}

    def token(self, seconds):
        store, now = self.store, int(self.store.now())
        claims = {
            "auth_type": "Bearer",
            "identity": {"user": "user-1", "company": COMPANY, "role": "admin", "user_name": "tester"},
            "env": "<unknown>",
            "iat": now,
            "exp": now + seconds,
            "api_version": "{}.{}".format(*store.version),
            "server_version": store.server_version,
            "feature_set": "basic",
        }
        parts = [{"alg": "HS256", "typ": "JWT"}, claims]
        signed = ".".join(_encode(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{self._sign(signed)}"

    def _sign(self, text):
        return _encode(hmac.digest(self._secret, text.encode(), hashlib.sha256))

    def check(self, header):
        """Accepts an Authorization header, or says why not."""
        kind, _, value = (header or "").partition(" ")
        if not header:
            raise ApiError(401, 20)
        if kind == "Basic":
            return self._check_credentials(value)
        if kind == "Bearer":
            return self._check_token(value)
        raise ApiError(401, 10)

    def _check_credentials(self, value):
        try:
            key, _, secret = base64.b64decode(value, validate=True).decode("latin-1").partition(":")
        except (binascii.Error, ValueError) as error:
            raise ApiError(401, 21, str(error)) from None
        wanted = self.store.credentials
        if (key, secret) != (wanted["key"], wanted["secret"]):
            raise ApiError(401, 22, "failed to locate provided credentials")

    def _check_token(self, token):
        if token not in self._ends:
            signed, _, signature = token.rpartition(".")
            if not hmac.compare_digest(self._sign(signed).encode(), signature.encode()):
                raise ApiError(401, 30, "invalid jwt token", reason="Signature verification failed")
            self._ends[token] = json.loads(_decode(signed.split(".")[1]))["exp"]
        if self._ends[token] <= self.store.now():
            raise ApiError(401, 30, "invalid jwt token", reason="Signature has expired")

    def login(self, call):
        """`auth.login`"""
        default = self.store.settings.get("token_seconds", DEFAULT_SECONDS)
        seconds = optional(call.body, "expiration_sec", int, default)
        if not 0 < seconds <= MOST_SECONDS:
            raise ApiError(400, 12, "invalid value of expiration_sec", field="expiration_sec")
        if "token_seconds" in self.store.settings:
            seconds = default
        return {"token": self.token(seconds)}
