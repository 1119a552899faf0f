"""Checks COSE receipts with the package scitt-cose, which shares no code with Vitaltrace.

    python receipt.py RECEIPT.txt    the published receipt, and that no changed copy of it holds
    python receipt.py FOLDER         what `vitaltrace verify --receipts FOLDER` wrote

Exit code 0: all of it holds.
"""

import pathlib
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from scitt_cose import verify_receipt


def published(path):
    fields = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
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


def taken_out(folder):
    receipts = sorted(folder.glob("*.cose"))
    assert receipts, f"no receipts in {folder}"
    members = set()
    for path in receipts:
        entry, member = path.stem.split("-", 1)
        members.add(member)
        leaf = (folder / f"{entry}.leaf").read_bytes().hex()
        key = (folder / f"{member}.pem").read_bytes()
        result = verify_receipt(path.read_bytes(), leaf_entry_hex=leaf, log_public_key_pem=key)
        assert result.ok, (path.name, result.errors)
        assert result.issuer.endswith(f"/{member}"), result.issuer
    print(f"{len(receipts)} receipts of {len(members)} members hold")


if __name__ == "__main__":
    where = pathlib.Path(sys.argv[1])
    taken_out(where) if where.is_dir() else published(where)
