"""A workload of this host on the `spiffe` library as it is: SVIDs and bundles by the Workload API, and the bundle that others read.

    spiffe_workload.py ISSUER SOCKET AGENT_ID AUDIENCE
"""

import base64
import json
import sys
import urllib.request

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from spiffe import JwtBundle, TrustDomain, WorkloadApiClient
from spiffe.svid.jwt_svid import JwtSvid

from checks import Checks

issuer, socket, agent, audience = sys.argv[1:]
checks = Checks()
domain = TrustDomain("acme.example")

with WorkloadApiClient(socket_path=f"unix://{socket}") as client:
    svid = client.fetch_x509_svid(timeout=20)
    checks.that("the workload has an X.509-SVID of its agent", str(svid.spiffe_id) == agent, svid.spiffe_id)
    bundle = client.fetch_x509_bundles(timeout=20).get_bundle_for_trust_domain(domain)
    roots = list(bundle.x509_authorities)
    checks.that("its bundle is the trust domain's", len(roots) == 1, roots)
    svid.leaf.verify_directly_issued_by(roots[0])
    checks.that("the root signed it", True)
    checks.that("its key is its own", svid.private_key.public_key() == svid.leaf.public_key())
    lives = svid.leaf.not_valid_after_utc - svid.leaf.not_valid_before_utc
    checks.that("it lives about an hour", lives.total_seconds() < 4000, lives)
    root = roots[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    checks.that("the root names the trust domain", root.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://acme.example"], root)

    token = client.fetch_jwt_svid(audience={audience}, timeout=20)
    checks.that("it has a JWT-SVID for a declared audience", str(token.spiffe_id) == agent and audience in token.audience, token.audience)
    keys = client.fetch_jwt_bundles(timeout=20).get_bundle_for_trust_domain(domain)
    checks.that("the JWT bundle validates it", str(JwtSvid.parse_and_validate(token.token, keys, {audience}).spiffe_id) == agent)
    try:
        JwtSvid.parse_and_validate(token.token, keys, {"elsewhere"})
        checks.that("it is refused for another audience", False)
    except Exception as error:
        checks.that("it is refused for another audience", True, error)
    validated = client.validate_jwt_svid(token.token, audience=audience, timeout=20)
    checks.that("the Workload API itself validates it", str(validated.spiffe_id) == agent, validated.spiffe_id)
    try:
        client.validate_jwt_svid(token.token, audience="elsewhere", timeout=20)
        checks.that("and not for another audience", False)
    except Exception as error:
        checks.that("and not for another audience", True, error)
    try:
        client.fetch_jwt_svid(audience={"elsewhere"}, timeout=20)
        checks.that("there is none for an audience that is not declared", False)
    except Exception as error:
        checks.that("there is none for an audience that is not declared", True, error)

document = json.load(urllib.request.urlopen(f"{issuer}/spiffe-bundle"))
checks.that("the bundle has a sequence and a hint", document["spiffe_sequence"] > 0 and document["spiffe_refresh_hint"] > 0, document)
# The library reads bundles of one kind of key.
jwt_keys = {"keys": [key for key in document["keys"] if key["use"] == "jwt-svid"]}
validated = JwtSvid.parse_and_validate(token.token, JwtBundle.parse(domain, json.dumps(jwt_keys).encode()), {audience})
checks.that("the published bundle validates the JWT-SVID", str(validated.spiffe_id) == agent)
der = [x509.load_der_x509_certificate(base64.b64decode(key["x5c"][0])) for key in document["keys"] if key["use"] == "x509-svid"]
checks.that("the published bundle has the root", der == roots and isinstance(der[0].public_key(), ec.EllipticCurvePublicKey), der)
checks.end()
