"""Makes an agent's key pair and prints it as JSON: the private key as PEM (PKCS #8), the public one as a JWK (ES256)."""

import json

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

key = ec.generate_private_key(ec.SECP256R1())
pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
print(json.dumps({"pem": pem, "jwk": ECAlgorithm.to_jwk(key.public_key(), as_dict=True)}))
