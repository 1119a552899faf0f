//! Names of devices, and the keys they sign with.

use ed25519_dalek::VerifyingKey;
use record::{Id16, TimeMs};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The longest device name, in bytes.
pub(crate) const DEVICE_ID_BYTES_MAX: usize = 96;

/// Name of a device: a `urn:dev:` name of RFC 9039, at most 96 bytes of `A-Z a-z 0-9 - : . _`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
// INVARIANT: the characters, prefix and length promised above.
pub struct DeviceId(String);

/// Why a text is no device name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a device's name starts with `urn:dev:` and has at most 96 of `A-Z a-z 0-9 - : . _`, the last no `:`")]
pub struct BadDeviceId;

impl DeviceId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for DeviceId {
    type Err = BadDeviceId;
    fn from_str(text: &str) -> Result<Self, BadDeviceId> {
        let fits = text.len() <= DEVICE_ID_BYTES_MAX
            && text.strip_prefix("urn:dev:").is_some_and(|rest| !rest.is_empty() && !rest.ends_with(':'))
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'.' | b'_'));
        if fits { Ok(Self(text.to_owned())) } else { Err(BadDeviceId) }
    }
}
impl TryFrom<String> for DeviceId {
    type Error = BadDeviceId;
    fn try_from(text: String) -> Result<Self, BadDeviceId> {
        text.parse()
    }
}
impl From<DeviceId> for String {
    fn from(device: DeviceId) -> Self {
        device.0
    }
}
impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// That a device measures a patient, from when until when: what the ledger's device entries say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The device.
    pub device: DeviceId,
    /// The key its frames are signed with; see [`device_key`].
    pub key: VerifyingKey,
    /// FHIR reference of the patient, such as `Patient/1`.
    pub patient: String,
    /// The binding's id on the ledger.
    pub binding: Id16,
    /// First millisecond of the binding, by the gateway's clock.
    pub from: TimeMs,
    /// First millisecond after the binding; nothing while it is open.
    pub until: Option<TimeMs>,
}

/// A byte string that no device can be bound with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a device's key is a point of ed25519 and not of small order")]
pub struct BadKey;

/// The public key in `bytes`. Keys under which one signature fits many messages are refused.
pub fn device_key(bytes: &[u8; 32]) -> Result<VerifyingKey, BadKey> {
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| BadKey)?;
    if key.is_weak() { Err(BadKey) } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_scheme_are_refused() {
        for good in ["urn:dev:mac:0024befffe804ff1", "urn:dev:ops:32473-monitor-7", "urn:dev:ow:10e2073a01080063"] {
            assert_eq!(good.parse::<DeviceId>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "monitor",
            "urn:dev:",
            "urn:dev:mac:",
            "urn:dev:mac:a/b",
            "urn:dev:mac:ä",
            &format!("urn:dev:{}", "a".repeat(89)),
        ] {
            assert_eq!(bad.parse::<DeviceId>(), Err(BadDeviceId), "{bad}");
        }
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        let mut identity = [0u8; 32];
        identity[0] = 1;
        assert_eq!(device_key(&identity), Err(BadKey));
        assert!(device_key(ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().as_bytes()).is_ok());
    }
}
