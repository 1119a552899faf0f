//! Hears nothing from one member, and tells it nothing: none of that member's submissions reach a block when the censor leads.

use crate::world::World;

/// The censor's node and the victim's never reach each other; the others reach both.
pub(super) fn stop_listening(world: &World, censor: usize, victim: usize) {
    let mut state = world.state();
    for (from, to) in [(censor, victim), (victim, censor)] {
        state.cut[from][to] = true;
    }
    state.faults.misdeeds += 1;
}
