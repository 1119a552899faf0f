//! Lies about a run, told to the checkers after it: a checker that lets one pass is blind.

use crate::{
    checker::Replay,
    seen::{Chains, Values},
    submitter::Submitter,
    vault::Shelf,
    world::Misdeeds,
};
use contract::{SignedSubmission, Submission};
use ledger::FinalBlock;
use std::{collections::BTreeMap, sync::Arc};

/// What is changed before the checkers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tampering {
    /// One node named another block at a height.
    AnotherBlock,
    /// One node left a height out.
    MissingHeight,
    /// One node gave another receipt for an entry than the others.
    AnotherReceipt,
    /// All nodes named another log root for the last block.
    AnotherLog,
    /// All nodes gave another verdict for an entry.
    AnotherVerdict,
    /// One node's state has another value.
    AnotherValue,
    /// Something was acknowledged that never became final.
    LostEntry,
    /// An access was acknowledged that no entry commits to.
    LostAccess,
    /// Something became final that nobody wrote.
    ForeignEntry,
    /// An entry that the contract refused counts as applied.
    AppliedAnyway,
    /// Custodians signed for what they never had.
    NeverHeld,
    /// A block that broke the rules became final.
    WrongBlock,
    /// Whoever broke the rules is said to have kept them.
    Innocence,
}

impl Tampering {
    /// Every lie.
    pub const ALL: [Self; 13] = [
        Self::AnotherBlock,
        Self::MissingHeight,
        Self::AnotherReceipt,
        Self::AnotherLog,
        Self::AnotherVerdict,
        Self::AnotherValue,
        Self::LostEntry,
        Self::LostAccess,
        Self::ForeignEntry,
        Self::AppliedAnyway,
        Self::NeverHeld,
        Self::WrongBlock,
        Self::Innocence,
    ];

    /// The property whose checker must notice.
    pub fn breaks(self) -> &'static str {
        match self {
            Self::AnotherBlock | Self::MissingHeight => "agreement",
            Self::AnotherLog | Self::AnotherVerdict => "contract",
            Self::AnotherReceipt | Self::AnotherValue => "identical roots",
            Self::LostEntry | Self::LostAccess | Self::ForeignEntry => "nothing acknowledged is lost",
            Self::AppliedAnyway => "what a regulator asks",
            Self::NeverHeld => "what is final is held",
            Self::WrongBlock => "misdeeds",
            Self::Innocence => "blame",
        }
    }

    pub(crate) fn of_chains(self, chains: &mut Chains) {
        let Some((last, _)) = chains.first().into_iter().next_back() else { return };
        let full = chains.first().into_iter().find(|(_, block)| !block.receipts.is_empty());
        let Some((full, _)) = full else { return };
        // Of the last member that runs a node, in its last life.
        let last_life = chains.of.values_mut().next_back().and_then(|lives| lives.values_mut().next_back());
        match self {
            Self::AnotherBlock => change(last_life.into_iter(), last, |block| block.digest.0[0] ^= 1),
            Self::MissingHeight => _ = last_life.and_then(|blocks| blocks.remove(&1)),
            Self::AnotherReceipt => change(last_life.into_iter(), full, |block| block.receipts[0].verdict ^= 1),
            Self::AnotherVerdict => {
                let all = chains.of.values_mut().flat_map(BTreeMap::values_mut);
                change(all, full, |block| block.receipts[0].verdict ^= 1);
            }
            Self::AnotherLog => {
                let all = chains.of.values_mut().flat_map(BTreeMap::values_mut);
                change(all, last, |block| {
                    let mut changed = (*block.block).clone();
                    changed.header.log_root.0[0] ^= 1;
                    block.digest = changed.header.digest();
                    block.block = Arc::new(changed);
                });
            }
            _ => {}
        }
    }

    pub(crate) fn of_values(self, values: &mut BTreeMap<usize, Values>) {
        if self == Self::AnotherValue
            && let Some((_, value)) = values.values_mut().next_back().and_then(|values| values.first_mut())
        {
            *value = None;
        }
    }

    pub(crate) fn of_misdeeds(self, wrong: &mut Misdeeds, chains: &Chains) {
        if self == Self::WrongBlock {
            wrong.blocks.extend(chains.first().values().next_back().map(|block| block.digest));
        }
    }

    pub(crate) fn of_vaults(self, vaults: &[Shelf]) {
        if self == Self::NeverHeld {
            vaults.iter().for_each(Shelf::forget_since);
        }
    }

    pub(crate) fn of_journal(self, submitter: &Submitter) {
        let mut journal = submitter.journal();
        match self {
            Self::LostEntry => {
                let Some(mut written) = journal.written.last().cloned() else { return };
                let lost = Submission { first_seq: journal.last_seq() + 1, ..written.signed.submission.clone() };
                written.signed = SignedSubmission::new(lost, written.signed.signature);
                journal.written.push(written);
            }
            Self::LostAccess => {
                let opened = journal.written.iter_mut().flat_map(|written| &mut written.opened).flatten().next_back();
                if let Some(gathered) = opened {
                    gathered.place ^= 1;
                }
            }
            Self::ForeignEntry => _ = journal.written.pop(),
            _ => {}
        }
    }

    pub(crate) fn of_replay(self, replay: &mut Replay) {
        if self == Self::AppliedAnyway
            && let Some((_, refused)) = replay.entries.iter_mut().find(|(_, refused)| refused.is_some())
        {
            *refused = None;
        }
    }
}

type Blocks = BTreeMap<u64, Arc<FinalBlock>>;

fn change<'a>(lives: impl Iterator<Item = &'a mut Blocks>, height: u64, change: impl Fn(&mut FinalBlock)) {
    for blocks in lives {
        if let Some(block) = blocks.get_mut(&height) {
            let mut changed = (**block).clone();
            change(&mut changed);
            *block = Arc::new(changed);
        }
    }
}
