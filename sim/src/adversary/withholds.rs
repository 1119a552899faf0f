//! Announces entries that name attachments, and hands the attachments over to nobody: no block takes them.

use super::Adversary;

/// Everybody else puts an attachment into the vault, from where it reaches the custodians, before the entry that names it is submitted.
pub(super) fn hands_over(adversary: Adversary) -> bool {
    adversary != Adversary::WithholdsAttachments
}
