//! Why the ledger refuses an entry, each reason with the number that stands in the log.

macro_rules! rejects {
    ($($(#[$doc:meta])* $code:literal $variant:ident = $text:literal;)+) => {
        /// Why an entry was refused. It is the author's fault, or the order's: another entry came first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum Reject { $($(#[$doc])* #[error($text)] $variant),+ }

        impl Reject {
            /// Every reason, in order of code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number in the leaf of the log over all entries. 0 stands for «applied»; a number never changes its meaning.
            pub fn code(self) -> u8 {
                match self { $(Self::$variant => $code),+ }
            }

            /// The reason with this number.
            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|reject| reject.code() == code)
            }
        }
    };
}

rejects! {
    /// The organisation is no member, or left.
    1 NoMember = "the organisation is no member";
    /// The entry's time is later than the block's by more than [`super::ENTRY_AHEAD_MS`].
    2 Ahead = "the entry's time lies ahead of the block's";
    /// The access policy named was never in force, or ended too long before.
    3 PolicyNotInForce = "the access policy that it names was not in force";
    /// The kind needs a patient's pseudonym.
    4 PatientMissing = "an entry of this kind names a patient";
    /// The first entry under a pseudonym does not commit to the month before.
    5 MonthMissing = "the first entry under a pseudonym commits to the month before";
    /// The organisation's role does not cover it.
    6 Role = "the organisation's role does not allow it";
    /// The purpose of use does not go with the kind.
    7 Purpose = "the purpose of use does not go with it";
    /// The patient is another than what it refers to.
    8 OtherPatient = "it refers to something of another patient";
    /// Only the organisation that began it may go on.
    9 OtherOrg = "it refers to something of another organisation";
    /// An id or record that must be new is there already.
    10 NotNew = "it is there already";
    /// What it refers to is not there.
    11 Unknown = "what it refers to is not there";
    /// What it ends or decides has ended or is decided.
    12 Over = "what it refers to is over";
    /// A time limit that is past or too far away.
    13 Limit = "its time limit is past or too far away";
    /// The version is not the next.
    14 Version = "the version is not the next one";
    /// The previous commitment is not the accepted one: somebody else wrote that version.
    15 Previous = "the version before is another one";
    /// Deletes what is not there or deleted already.
    16 NothingToDelete = "there is nothing to delete";
    /// The tag is one of audit events, which never change.
    17 AuditIsFinal = "an audit event never gets another version";
    /// Codes beyond their bounds.
    18 Codes = "too many codes, or codes that are no codes";
    /// Attachments beyond their bounds, or two essential copies.
    19 Attachments = "too many attachments, or too large";
    /// The count and the root of a set do not go together.
    20 Set = "the count does not go with the set";
    /// The access rests on nothing, where it must.
    21 GroundMissing = "the access must rest on an override or an investigation";
    /// The access rests on something that is over, somebody else's or unknown.
    22 GroundNotInForce = "what the access rests on is not in force";
    /// The override is open still.
    23 StillOpen = "an override is reviewed after it has ended";
    /// Reviewer and opener are one person.
    24 OwnReview = "an override is reviewed by somebody else";
    /// The device is bound already.
    25 DeviceBound = "the device is bound already";
    /// The key is revoked, or another device's.
    26 DeviceKey = "the device's key is revoked or belongs to another device";
    /// The binding has ended.
    27 BindingEnded = "the binding has ended";
    /// Counters that were used before.
    28 Counter = "the counter is not above the last one";
    /// First, last, count and gaps contradict each other.
    29 Gaps = "first, last, count and gaps contradict each other";
    /// The claim cannot take this step now.
    30 ClaimStep = "the claim cannot take this step now";
    /// The claim is addressed to another insurer, or to none.
    31 Insurer = "the claim is addressed to somebody else";
    /// A service was billed by another claim.
    32 BilledBefore = "a service was billed by another claim";
    /// Services missing, unsorted, repeated, or in a step that bills nothing.
    33 Services = "services are billed when a claim is submitted, each once and in order";
    /// What a dispute calls accepted is not the record's head.
    34 NotAccepted = "what it calls accepted is not the record's latest version";
    /// A hold forbids it.
    35 Held = "the records are held";
    /// The organisation voted already.
    36 VotedAlready = "the organisation has voted";
    /// Not enough members, or not enough of each class of them, are in favour.
    37 Votes = "not enough members, or not enough of each class, are in favour";
    /// The height is past, or not reached.
    38 Height = "the height is past or not reached yet";
    /// The key is weak, or in use, or was used before.
    39 MemberKey = "the key is no ed25519 key, or was used before";
    /// There are [`crate::MEMBERS_MAX`] members.
    40 MembersFull = "there are as many members as there may be";
    /// Both sides are the same.
    41 Same = "both sides are the same";
    /// The wrapping key or the address is empty, too long, or no such thing.
    42 Reach = "the wrapping key or the address has not the form of one";
    /// Who would be removed has no vote on it.
    43 OwnRemoval = "the member concerned has no vote";
    /// The set of validators would be empty, or too many of it would be new.
    44 Validators = "nobody would be left to decide, or too many validators would change in one epoch";
    /// Parts out of bounds or missing, other bytes than the digest names, or no derivation policy.
    45 Document = "the parts are no document that the digest names";
    /// The tag is not one of the organisation's audit events.
    46 AuditTag = "the tag is not one of the organisation's audit events";
    /// Fewer than two or more than [`crate::GATHERED_MAX`] accesses, or not within [`crate::GATHERED_MS_MAX`].
    47 Gathered = "too few or too many accesses, or not within a second";
    /// The derivation policy named is not in force, keeps frames for ever, or is not on the ledger.
    48 NoRetention = "the derivation policy in force lets no frames go";
    /// The frames were final too short a time before.
    49 TooEarly = "the frames are to be kept for longer";
    /// A roll-up is not on the ledger, deleted, no sensed record or another organisation's.
    50 NotRolledUp = "a roll-up that it names is not on the ledger as a sensed record of the organisation";
    /// An investigation under one of the pseudonyms is open, or is not named.
    51 CaseOpen = "an investigation of the patient is open, or is not named as concluded";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own_that_is_not_zero() {
        for (i, reject) in Reject::ALL.iter().enumerate() {
            assert_eq!(usize::from(reject.code()), i + 1);
            assert_eq!(Reject::from_code(reject.code()), Some(*reject));
        }
        assert_eq!(Reject::from_code(0), None);
    }
}
