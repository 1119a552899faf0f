"""Checks the published COSE receipt with the package scitt-cose, which shares no code with Vitaltrace.

    python receipt.py RECEIPT.txt

Exit code 0: it holds, and no changed copy of it does.
"""

import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from scitt_cose import verify_receipt


def main(path):
    with open(path, encoding="ascii") as file:
        fields = dict(line.split() for line in file)
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(fields["key"])).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    receipt = bytes.fromhex(fields["receipt"])

    def verified(receipt, leaf=fields["leaf-bytes"]):
        return verify_receipt(receipt, leaf_entry_hex=leaf, log_public_key_pem=key)

    result = verified(receipt)
    assert result.ok, result.errors
    issuer = f"vitaltrace/{fields['chain']}/{fields['organisation']}"
    assert result.issuer == issuer, result.issuer
    assert not verified(receipt, fields["leaf-bytes"][:-2] + "00").ok
    for at in range(len(receipt)):
        changed = bytearray(receipt)
        changed[at] ^= 1 << (at % 8)
        assert not verified(bytes(changed)).ok, f"byte {at}"
    print(f"the receipt holds: leaf {result.leaf_index} of {result.tree_size}; {len(receipt)} changed copies do not")


if __name__ == "__main__":
    main(sys.argv[1])
