//! Fixed-size byte strings that name things: SHA-256 digests and random 128-bit ids.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

/// Why a text is not the hexadecimal form of a fixed-size byte string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits, lower case")]
pub struct BadHex {
    expected: usize,
}

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
            /// Lower-case hexadecimal.
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }
        }
        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }
        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }
        impl FromStr for $name {
            type Err = BadHex;
            fn from_str(text: &str) -> Result<Self, BadHex> {
                let bad = BadHex { expected: $len * 2 };
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(bad);
                }
                let mut bytes = [0u8; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| bad)?;
                Ok(Self(bytes))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.to_hex())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
        impl<C> Encode<C> for $name {
            fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }
        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
                let bytes = d.bytes()?;
                let bytes = bytes
                    .try_into()
                    .map_err(|_| decode::Error::message(concat!("a ", stringify!($name), " has ", $len, " bytes")))?;
                Ok(Self(bytes))
            }
        }
    };
}

fixed_bytes!(
    /// A SHA-256 digest, 32 bytes. Text form: 64 lower-case hexadecimal digits.
    Digest,
    32
);
fixed_bytes!(
    /// A random 128-bit id of something on the ledger that is no person: an entry, a grant, a binding, an override, a case.
    Id16,
    16
);

/// SHA-256 over the concatenation of `parts`. Callers put a domain first and length-prefix what varies.
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Digest(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_refuses_other_lengths_and_cases() {
        let digest = sha256(&[b"abc"]);
        assert_eq!(digest.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_hex().parse::<Digest>(), Ok(digest));
        assert!("BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".parse::<Digest>().is_err());
        assert!("ba78".parse::<Digest>().is_err());
    }

    #[test]
    fn cbor_round_trips_and_refuses_other_lengths() {
        let bytes = minicbor::to_vec(Id16([7; 16])).unwrap();
        assert_eq!(minicbor::decode::<Id16>(&bytes).unwrap(), Id16([7; 16]));
        assert!(minicbor::decode::<Digest>(&bytes).is_err());
    }
}
