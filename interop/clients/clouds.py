"""A relying party on the `authlib` library: it takes a token of ours by what is published alone.

    clouds.py ISSUER TOKEN_FILE AUDIENCE
"""

import json
import sys
import urllib.request

from authlib.jose import JsonWebKey, JsonWebToken
from authlib.jose.errors import JoseError
from authlib.oidc.discovery import OpenIDProviderMetadata

from checks import Checks

issuer, file, audience = sys.argv[1:]
checks = Checks()


def read(url):
    return json.load(urllib.request.urlopen(url))


with open(file) as stored:
    token = stored.read().strip()
document = read(f"{issuer}/.well-known/openid-configuration")
metadata = OpenIDProviderMetadata(document)
for part in ["issuer", "token_endpoint", "jwks_uri", "response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported", "grant_types_supported"]:
    try:
        getattr(metadata, f"validate_{part}")()
        checks.that(f"authlib accepts `{part}`", True)
    except ValueError as error:
        checks.that(f"authlib accepts `{part}`", False, str(error))
checks.that("the document is of the issuer that was asked", document["issuer"] == issuer, document)

keys = JsonWebKey.import_key_set(read(document["jwks_uri"]))
options = {name: {"essential": True} for name in ["iat", "nbf", "exp", "jti", "sub"]}
options |= {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": audience}}


def taken(token, **changed):
    claims = JsonWebToken(["RS256"]).decode(token, keys, claims_options={**options, **changed})
    claims.validate()
    return claims


claims = taken(token)
checks.that("authlib takes the token by the published key", claims["sub"].startswith("spiffe://"), claims)
checks.that("the token lives for minutes", claims["exp"] - claims["iat"] <= 3600, claims)
for case, spoil in {
    "for another audience": lambda: taken(token, aud={"essential": True, "value": "elsewhere"}),
    "of another issuer": lambda: taken(token, iss={"essential": True, "value": "https://elsewhere.example"}),
    "with another's signature": lambda: taken(token[:-6] + ("AAAAAA" if token[-6:] != "AAAAAA" else "BBBBBB")),
}.items():
    try:
        spoil()
        checks.that(f"a token {case} is refused", False)
    except JoseError as error:
        checks.that(f"a token {case} is refused", True, error)
checks.end()
