//! Who measured it, and was it them: bytes in, `Reading` or `Reject` out.
//!
//! A device numbers its [`Frame`]s, links each to the one before and signs it. [`admit`] checks signature, binding, sequence
//! and clock and gives a [`Reading`]: [`observation`] serves it as FHIR, [`Batch`] sums it up for the ledger. A [`Watch`]
//! stands over one device for longer, and [`Signed`] checks the signatures of many frames at once. [`wfdb`] and [`edf`] write
//! readings as recordings, [`rollup`] keeps what is left of frames, [`compact`] packs frames for storage. [`wfdb`] reads recordings, [`generated`] makes signals and
//! [`fault`] spoils them, so that a reference device has something to send.
//!
//! Everything here is pure: no clock is read, nothing is spawned, no randomness is drawn.

mod admit;
mod batch;
mod clock;
mod decimal;
mod device;
mod frame;
mod rate;
mod senml;
mod signal;
mod verify;
mod watch;

pub mod observation;
pub mod rollup;
pub mod sensor;

pub mod compact;
pub mod edf;
pub mod fault;
pub mod generated;
pub mod track;
pub mod wfdb;

pub use admit::{
    CLOCK_AHEAD_MS_MAX, CLOCK_BEHIND_MS_MAX, DeviceState, Doubt, Gap, Reading, Reject, admit, admit_frame, admit_signed,
};
pub use batch::{BATCH_FRAMES_MAX, BATCH_GAPS_MAX, Batch, NotBatched};
pub use clock::{Clock, Estimate};
pub use decimal::Decimal;
pub use device::{BadDeviceId, BadKey, Binding, DeviceId, device_key};
pub use ed25519_dalek::{SigningKey, VerifyingKey};
pub use frame::{BadFrame, FRAME_BYTES_MAX, Frame, NO_PREVIOUS, Sequence};
pub use rate::{Bucket, Rate};
pub use senml::{Pack, SAMPLES_MAX, SIGNALS_MAX};
pub use signal::{Absence, Limits, Samples, Signal, Value, Waveform};
pub use verify::Signed;
pub use watch::{Next, Refusal, Watch};
